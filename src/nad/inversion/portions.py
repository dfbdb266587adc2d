"""How many classes are sought at once: one optimisation for all is fast, and its activations have to fit."""

AT_ONCE = 512  # images in a step, of 64x64 pixels at most


def classes_at_once(size: tuple[int, int], batch: int) -> int:
    """How many classes one step takes.

    Args:
        size: height and width of the pictures. batch: images a step, each of them once for every class.
    """
    return max(1, int(AT_ONCE * min(1.0, 64 * 64 / (size[0] * size[1]))) // batch)
