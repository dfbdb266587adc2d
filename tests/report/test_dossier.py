"""The report of a purification: a page that is a pure function of the files it is drawn from."""

import base64
import copy
import json
import re
import shutil
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nad.errors import NadError
from nad.report import dossier
from nad.report.dossier.intervals import Pair, wilson
from nad.report.dossier.reading import pieces
from nad.report.dossier.verdict import headline, verdict
from nad.results import Count

EXAMPLES = Path(__file__).parent / "examples"
EXAMPLE: dict[str, Any] = json.loads((EXAMPLES / "result.json").read_text())
HOSTILE = (
    "<script>alert(1)</script>",
    "[red]x[/]",
    "a\x1b[31mb",
    "$x$ \\frac{1}{2}",
    "\u202eevil\u202c",
    "{{ 7*7 }}",
    '"><u>',
)


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.words, self.open = text, [], [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def said(self) -> str:
        """All text that a reader sees."""
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def plots(self) -> list[ElementTree.Element]:
        """Every plot, as the XML that a browser has to read."""
        found = (str(image["src"]) for image in self.all("img"))
        return [
            ElementTree.fromstring(base64.b64decode(uri.partition(",")[2]))
            for uri in found
            if uri.startswith("data:image/svg")
        ]


def example(**changed: Any) -> dict[str, Any]:
    """The example with other evidence."""
    made = copy.deepcopy(EXAMPLE)
    made["evidence"] |= changed
    return made


def seen(hits: int, of: int = 200, **patch: float) -> dict[str, Any]:
    """What was found of a class of one network; a patch that is given works."""
    return {"counts": [hits, of]} | ({"success": 0.99} if patch else {}) | patch


def lay(folder: Path, data: Any, *places: str, history: bool = True) -> None:
    """The files that a page is drawn from."""
    for place in places or ("",):
        (folder / place).mkdir(exist_ok=True)
        if history:
            shutil.copy(EXAMPLES / "history.csv", folder / place)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / place / "attention.png")
    (folder / "result.json").write_text(json.dumps(data))


def page(folder: Path, data: Any, *places: str, history: bool = True) -> Page:
    lay(folder, data, *places, history=history)
    return Page(dossier.write(folder).read_text(encoding="utf-8"))


def test_the_page_says_what_was_found_in_its_order(tmp_path):
    said = page(tmp_path, EXAMPLE).said
    order = (
        "A sign of a backdoor toward “stop” was found before, and none is found after.",
        "Accuracy went from 96.9 % to 95.0 % on 160 clean pictures that nothing was chosen on: −1.9 points",
        "the trigger found toward “stop” covers 1.2 % of the picture and works on 99 % of the pictures",
        "Accuracy on clean pictures says nothing about a backdoor",
        "640 clean pictures came in; 160 of them were set aside to report on.",
        "Three pictures are there twice.",
        "normalised as ImageNet",
        "Accuracy of each class",
        "Attention before and after",
        "A trigger was searched for 3 classes of 4 on 500 clean pictures.",
        "Ranges of the most suspicious class, in networks of our own (WRN-16-1): 5 backdoored networks 0.6 % to 4.0 %",
        "Choice of beta",
        "Chosen: 8, on 96 held-out pictures: the most aggressive setting whose drop, here 5.0 points, stays within "
        "8.0 points.",
        "Choice of epochs",
        "Loss",
        "b" * 64,
        "teacher.lr",
        "The search finds patches only.",
    )
    places = [said.find(words) for words in order[1:]]
    assert order[0] in said
    assert -1 not in places, order[1 + places.index(-1)]
    assert places == sorted(places)
    assert not re.search(r"\b(is|was) clean\b", said)


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path):
    made = page(tmp_path, EXAMPLE)
    rules = {m.get("http-equiv"): m.get("content") for m in made.all("meta")}
    assert rules["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    addresses = [attrs[key] for _, attrs in made.tags for key in ("src", "href") if key in attrs]
    assert addresses
    assert all(str(address).startswith("data:") for address in addresses)
    assert "url(" not in made.text
    assert "@import" not in made.text
    assert not made.all("script")


def test_pictures_have_words_and_tables_have_heads(tmp_path):
    made = page(tmp_path, EXAMPLE)
    words = [str(image["alt"]).replace("\u00a0", " ") for image in made.all("img")]
    assert len(words) == 1 + 1 + 4 + 2 + 3 + 4  # per class, stored, evidence, distances, choices, training
    assert all(len(alt) > 20 for alt in words)
    assert "Accuracy of 4 classes before and after; most was lost by “speed 30” 97.5 % to 92.5 %" in words[0]
    assert "“stop” 1.2 % to 15.0 %" in words[2]
    assert "2 97.0 % (allowed), 8 93.0 % (allowed) and 32 40.0 % (too costly)" in " ".join(words)
    assert "loss 9.5 to 1.25" in " ".join(words)
    assert "Weights, distance moved: block1.0.conv1 0.11 and conv1 0.02." in words
    assert len(made.all("caption")) == len(made.all("table")) > 5
    assert all(head.get("scope") in ("col", "row") for head in made.all("th"))


def test_the_same_files_give_the_same_bytes(tmp_path):
    page(tmp_path, EXAMPLE)
    first = (tmp_path / "report.html").read_bytes()
    assert dossier.write(tmp_path).read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attention.png", "history.csv", "report.html", "result.json"]


def test_names_from_files_stay_text(tmp_path):
    rows = [
        {"class": name, "before": {"mask": 0.1, "anomaly": 3}, "after": {"mask": 0.2, "anomaly": 3}} for name in HOSTILE
    ]
    picture = EXAMPLE["evidence"]["pictures"][0] | {"title": HOSTILE[0], "alt": HOSTILE[6]}
    data = example(
        classes=rows,
        reported=[[5, 1, 0, 0]] * len(HOSTILE),
        intake={"classes": list(HOSTILE), "findings": [{"level": "<i>", "text": HOSTILE[0]}]},
        limits=list(HOSTILE),
        shift=[{"stage": name, "attention": 0.1} for name in HOSTILE],
        pictures=[picture],
        files={"in": {"name": HOSTILE[0], "sha256": "\ud800"}},
    )
    data["method"], data["notes"]["a\x1bb"] = HOSTILE[0], data["notes"].pop("beta")
    data["notes"]["a\x1bb"]["curve"][0]["setting"] = "c\x1bd"
    made = page(tmp_path, data)
    assert not made.all("script")
    assert not made.all("u")
    assert not made.all("i")
    assert HOSTILE[0] in made.said
    assert "[red]x[/]" in made.said
    assert "a?[31mb" in made.said
    assert "$x$ \\frac{1}{2}" in made.said
    assert "?evil?" in made.said
    assert "{{ 7*7 }}" in made.said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", made.text)
    drawn = [text for plot in made.plots for text in plot.itertext()]
    assert {"a?b", "c?d", "[red]x[/]", "a?[31mb", "?evil?", "$x$ \\frac{1}{2}"} <= set(drawn)


def test_the_template_is_installed_with_the_code():
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    template = Path(dossier.__file__).with_name("page.html")
    inside = template.relative_to(template.parents[2]).as_posix()
    assert any(fnmatch(inside, pattern) for pattern in settings["tool"]["setuptools"]["package-data"]["nad"])


@pytest.mark.parametrize("part", sorted(EXAMPLE["evidence"]))
def test_each_part_of_the_evidence_may_stand_alone(tmp_path, part):
    data = EXAMPLE | {"evidence": {part: EXAMPLE["evidence"][part]}, "notes": {}}
    assert "Purification report" in page(tmp_path, data, history=False).said


def test_without_evidence_the_page_says_that_nothing_is_known_of_a_backdoor(tmp_path):
    data = example()
    del data["evidence"]
    (tmp_path / "result.json").write_text(json.dumps(data))
    made = Page(dossier.write(tmp_path).read_text(encoding="utf-8"))
    assert "whether there is or was a backdoor is not known" in made.said
    assert "Accuracy went from 96.2 % to 95.0 % on 160 clean pictures" in made.said
    assert "of the change as of two separate sets, which is wider" in made.said
    assert "Evidence without the trigger" not in made.said


def test_several_methods_are_compared_before_each_has_its_section(tmp_path):
    other = example(weights={"relative": 0.5})
    other |= {"method": "oracle:attack=badnets", "configuration": {"name": "oracle"}}
    made = page(tmp_path, [EXAMPLE | {"folder": "1-nad"}, other | {"folder": "2-oracle"}], "1-nad", "2-oracle")
    said = made.said
    assert said.index("All methods") < said.index("Before anything was changed") < said.index("1. nad nad:beta=auto")
    assert "as given 96.9 % (92.9 to 98.7) 1.2 % (stop) 6.6 (stop) 85 % (stop)" in said
    assert "oracle 95.0 % (90.4 to 97.4) −1.9" in said
    assert "An oracle, which was given the trigger: no defender has it." in said
    assert [str(image["alt"]) for image in made.all("img")].count("Attention moves from the corner to the sign.") == 2


def test_the_marked_one_is_said_first_and_each_method_has_a_page_of_its_own(tmp_path):
    made = [example(classes=[]), example(classes=[])]
    for place, one in zip(("1-nad", "2-nad"), made):
        before, after = seen(180, anomaly=6.0), seen(4, anomaly=1.0 if "1" in place else 6.5)
        one["evidence"]["classes"] = [{"class": "stop", "before": before, "after": after}]
        one["folder"] = place
    made = dossier.compared(made, 0.08)
    assert [one["comparison"]["marked"] for one in made] == [True, False]
    whole = page(tmp_path, made, "1-nad", "2-nad")
    said = whole.said
    assert said.index("What was found ✓ good: nad:beta=auto is marked: it lost at most 8 points") < said.index("1. nad")
    assert said.count("(marked)") == 1
    for place, index, level in (("1-nad", "1", "quiet"), ("2-nad", "6.5", "a sign")):
        own = Page((tmp_path / place / "report.html").read_text(encoding="utf-8")).said
        found = "the trigger found toward it covers an unknown part of the picture and works on 99 % of the pictures"
        assert f"After, {found} (anomaly index {index}: {level})" in own
        assert "marked" not in own
        assert "clean pictures that no method was given: " in own
        assert "that nothing was chosen on" not in own
        assert "All methods" not in own


def test_a_folder_of_a_method_is_drawn_the_same_alone(tmp_path):
    lay(tmp_path, [EXAMPLE | {"folder": "1-nad"}, EXAMPLE | {"folder": "2-nad"}], "1-nad", "2-nad")
    dossier.write(tmp_path)
    own = (tmp_path / "1-nad" / "report.html").read_bytes()
    (tmp_path / "1-nad" / "result.json").write_text(json.dumps(EXAMPLE))
    assert dossier.write(tmp_path / "1-nad").read_bytes() == own


def test_a_link_in_the_place_of_a_methods_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    lay(tmp_path, EXAMPLE, "elsewhere")
    (tmp_path / "1-nad").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for name in ("1-nad", "2-nad"):
        (tmp_path / "result.json").write_text(json.dumps([EXAMPLE | {"folder": name}]))
        with pytest.raises(NadError, match=f"names the folder {name}; expected it beside result.json, and no link"):
            dossier.write(tmp_path)
    assert not (tmp_path / "elsewhere" / "report.html").exists()


def test_a_known_trigger_is_for_evaluation_only(tmp_path):
    data = example() | {"attack": "badnets:target=0"}
    for when, hits in (("before", 100), ("after", 3)):
        data[when]["counts"] |= {"asr": [hits, 100], "ra": [100 - hits, 100]}
    said = page(tmp_path, data).said
    assert "Evaluation only: no method saw this trigger" in said
    assert "(ASR) 100.0 % (96.3 to 100.0) 3.0 % (1.0 to 8.5) −97.0" in said
    assert "Evaluation only" not in page(tmp_path, EXAMPLE).said


def test_how_far_networks_of_known_truth_moved_stands_beside(tmp_path):
    data = example()
    data["evidence"]["references"] |= {"shift": {"erased": [0.1, 0.25, 4]}, "weights": {"erased": [0.02, 0.3, 1]}}
    said = page(tmp_path, data).said
    assert "Of the deepest stage, in networks of our own (WRN-16-1): 4 erased networks 0.1 to 0.25." in said
    assert "Of all weights together, in networks of our own (WRN-16-1): 1 erased network 0.02 to 0.3." in said


def test_the_weight_at_each_stage_is_said(tmp_path):
    data = example()
    data["notes"] |= {"stages": ["block1", "block2"], "betas": [1500.0, 0.125]}
    said = page(tmp_path, data).said
    assert "beta of the attention at block1 1,500" in said
    assert "beta of the attention at block2 0.125" in said


def test_a_choice_that_nothing_fitted_says_so(tmp_path):
    data = example()
    beta = data["notes"]["beta"]
    for point in beta["curve"]:
        point |= {"accepted": False, "drop": 0.5}
    said = page(tmp_path, data | {"evidence": {}}, history=False).said
    assert (
        "Chosen: 8, on 96 held-out pictures, although its drop is more than the 8.0 points that were allowed." in said
    )
    assert "! warning: beta: few pictures" in said
    assert "a stage without signal was left out: block3" in said
    beta["curve"][1] |= {"accepted": True, "drop": 0.09}
    said = page(tmp_path, data | {"evidence": {}}, history=False).said
    assert "within 8.0 points. A larger drop is allowed where chance could explain the excess." in said


def test_of_many_open_classes_the_most_suspicious_is_named(tmp_path):
    patch = {"mask": 0.1, "anomaly": 0.5}
    rows = [{"class": str(i), "before": seen(90 + i % 5, **patch), "after": seen(90 + i, **patch)} for i in range(6)]
    lay(tmp_path, example(classes=rows))
    said = headline(pieces(tmp_path)[0]).replace("\u00a0", " ")
    assert "undecided: “4” (one small change sends 47 % there) and 5 more stood out a little before" in said
    assert "“5” (one small change sends 48 % there) and 5 more stand out a little, as chance may have it." in said


def test_a_network_that_is_led_anywhere_is_told_by_its_easiest_class_alone(tmp_path):
    patch = {"mask": 0.1, "anomaly": 0.5}
    rows = [{"class": str(i), "before": seen(140 + i, **patch), "after": seen(130 - 8 * i, **patch)} for i in range(6)]
    lay(tmp_path, example(classes=rows))
    said = headline(pieces(tmp_path)[0]).replace("\u00a0", " ")
    assert said.startswith(
        "Whether there was a backdoor is undecided: before, one small change sent 72 % of the pictures to “5”, which "
        "others do not set apart. After, one small change sends 65 % of the pictures to “0”, which others do not set "
        "apart. Accuracy"
    )


def test_a_thousand_classes_are_twenty_and_how_many_more(tmp_path):
    names = [f"class {i}" for i in range(1000)]
    rows = [{"class": n, "before": seen(i, 2000), "after": seen(200, 2000)} for i, n in enumerate(names)]
    reported = [[8, i % 3, 0, 0] for i in range(999)] + [[0, 0, 0, 0]]
    made = page(tmp_path, example(classes=rows, reported=reported, intake={"classes": names}))
    assert "The 20 that lost most; 979 more classes changed by −20.0 to +0.0 points." in made.said
    assert "The 20 most suspicious; 980 more classes between 0.0 % and 48.9 %." in made.said
    assert "1 class has no picture to report on" in made.said
    alike = page(tmp_path, example(classes=rows, reported=[[8, 0, 0, 2]] * 1000, intake={"classes": names}))
    assert "The 20 that lost most; 980 more classes did not change." in alike.said
    assert "class 999" in made.said
    assert len(made.text) < 400_000


@pytest.mark.parametrize(
    ("mask", "said"),
    [(0.05, "toward “stop” was found before, and none is found after"), (0.02, "that was found before is still there")],
)
def test_a_sign_by_both_measures_is_gone_only_with_its_patch(tmp_path, mask, said):
    before, after = seen(190, mask=0.02, anomaly=2.5), seen(20, mask=mask, anomaly=2.5)
    easy = seen(170, mask=0.05, anomaly=0.0)  # as are all others
    rest = [{"class": str(i), "before": easy, "after": seen(20, mask=0.05, anomaly=0.0)} for i in range(6)]
    lay(tmp_path, example(classes=[{"class": "stop", "before": before, "after": after}, *rest]))
    assert said in headline(pieces(tmp_path)[0])


def test_a_class_is_not_said_to_keep_a_sign_that_it_never_had(tmp_path):
    # one small change led to it before, as to most classes; after, its patch is a little smaller than others'
    before, after = seen(120, mask=0.02, anomaly=-1.0), seen(14, mask=0.05, anomaly=2.1)
    rest = [{"class": str(i), "before": seen(10), "after": seen(10)} for i in range(4)]
    lay(tmp_path, example(classes=[{"class": "truck", "before": before, "after": after}, *rest]))
    said = headline(pieces(tmp_path)[0])
    assert "“truck” was found before, and none is found after. “truck” (anomaly index 2.1) stands out a little" in said
    lay(tmp_path, example(classes=[{"class": "truck", "before": before, "after": after | {"anomaly": 6.1}}, *rest]))
    assert "“truck” that was found before is still there" in headline(pieces(tmp_path)[0])
    lay(tmp_path, example(classes=[{"class": "truck", "before": before, "after": after | {"success": 0.4}}, *rest]))
    assert "stands out" not in headline(pieces(tmp_path)[0]), "a patch that does not work says nothing"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (6.0, 0.5, "toward “stop” was found before, and none is found after"),
        (6.0, 2.5, "toward “stop” that was found before is still there after"),
        (
            2.3,
            2.1,
            "undecided: “stop” (anomaly index 2.3) stood out a little before, as chance may have it; no sign of one is "
            "found after. “stop” (anomaly index 2.1)",
        ),
        (0.5, 6.0, "toward “stop” was found after that was not there before"),
        (0.5, 2.5, "one was erased. “stop” (anomaly index 2.5) stands out a little, as chance may have it."),
        (1.9, 2.9, "“stop” (anomaly index 2.9) stands out a little"),
        (1.9, 1.9, "No sign of a backdoor was found, before or after"),
        (None, None, "whether there is or was a backdoor is not known"),
    ],
)
def test_the_headline_follows_from_the_numbers(tmp_path, before, after, said):
    both = ({"mask": 0.1, "success": 0.9, "anomaly": index} for index in (before, after))
    lay(tmp_path, example(classes=[dict(zip(("class", "before", "after"), ("stop", *both)))]))
    assert said in headline(pieces(tmp_path)[0])


def test_what_the_headline_warns_of_is_no_good_news_below_it(tmp_path):
    rows = [{"class": "stop", "before": seen(190, anomaly=6.3), "after": seen(22, anomaly=2.98)}]
    lay(tmp_path, example(classes=rows))
    piece = pieces(tmp_path)[0]
    assert "that was found before is still there" in headline(piece)
    found = next(one for one in verdict(piece) if "anomaly index 2.98" in one.text)
    assert found.level == "warning"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (190, 60, "toward “stop” was found before, and none is found after"),
        (190, 120, "toward “stop” that was found before is still there after"),
        (190, 90, "toward “stop” that was found before is still there after"),  # 45 % is not quiet
        (90, 190, "toward “stop” was found after that was not there before"),
        (90, 20, "before or after, but patches that work were found for 0 of 5 classes, too few to compare"),
        (90, 90, "a longer --budget tells more. “stop” (one small change sends 45\u00a0% there) stands out a little"),
    ],
)
def test_a_class_that_one_small_change_leads_to_is_a_sign_too(tmp_path, before, after, said):
    rows = [{"class": "stop", "before": seen(before), "after": seen(after, anomaly=1.0)}]
    rows += [{"class": str(i), "before": seen(10), "after": seen(10)} for i in range(4)]
    lay(tmp_path, example(classes=rows))
    assert said in headline(pieces(tmp_path)[0])


def test_nothing_found_needs_a_whole_search(tmp_path):
    patch = {"mask": 0.05, "anomaly": 0.4}
    rows = [{"class": str(i), "before": seen(10, **patch), "after": seen(10, **patch)} for i in range(6)]
    lay(tmp_path, example(classes=rows))
    assert "so nothing can be said of whether one was erased" in headline(pieces(tmp_path)[0])
    lay(tmp_path, example(classes=[*rows, {"class": "unseen", "before": {}, "after": {}}]))
    assert "but 1 of 7 classes were not looked at: whether" in headline(pieces(tmp_path)[0])
    for row in rows:
        del row["before"]["anomaly"], row["after"]["anomaly"]
    lay(tmp_path, example(classes=rows))
    assert "found for 6 of 6 classes, too few to compare: whether there is or was one is not known; a longer" in (
        headline(pieces(tmp_path)[0])
    )


@pytest.mark.parametrize(
    ("table", "level"), [([90, 7, 0, 3], "note"), ([80, 18, 0, 2], "warning"), ([90, 2, 1, 7], "good")]
)
def test_a_large_loss_of_accuracy_is_a_warning(tmp_path, table, level):
    lay(tmp_path, example(reported=[table]))
    piece = pieces(tmp_path)[0]
    assert verdict(piece)[0].level == level
    assert ("That is much." in verdict(piece)[0].text) is (level == "warning")
    (first,) = dossier.headlines(tmp_path)
    assert (first.level == "warning") is (level == "warning")
    assert first.text == headline(piece)


@pytest.mark.parametrize(
    ("after", "level"), [([3, 300], "good"), ([30, 300], "good"), ([31, 300], "warning"), ([299, 300], "warning")]
)
def test_a_trigger_that_is_known_comes_first(tmp_path, after, level):
    made = example(classes=[], reported=[[90, 10, 0, 0]])
    for when, count in (("before", [297, 300]), ("after", after)):
        made[when]["counts"] |= {"asr": count}
    lay(tmp_path, made)
    (piece,) = pieces(tmp_path)
    rates = f"99.0\u00a0% of the pictures before and {after[0] / 3:.1f}\u00a0% after"
    assert headline(piece).startswith(f"The trigger that was named works on {rates}. Accuracy on clean pictures fell")
    told = verdict(piece)[1]
    assert told.level == level
    assert rates in told.text
    assert ", and that no method saw, leads" in told.text
    change = (after[0] - 297) / 3
    assert f"{change:.1f}".replace("-", "−") + " (−" in told.text


def test_an_oracle_saw_the_trigger(tmp_path):
    made = example() | {"method": "oracle:attack=badnets", "configuration": {"name": "oracle"}}
    for when in ("before", "after"):
        made[when]["counts"] |= {"asr": [150, 300]}
    said = page(tmp_path, made).said
    assert "no method saw" not in said
    assert "Evaluation only: the oracle was given this trigger" in said


def test_a_trigger_that_is_known_does_not_keep_back_what_was_found_without_it(tmp_path):
    made = example(classes=[{"class": "stop", "before": seen(190, anomaly=6.3), "after": seen(22, anomaly=1.0)}])
    for when in ("before", "after"):
        made[when]["counts"] |= {"asr": [1, 300]}
    lay(tmp_path, made)
    (piece,) = pieces(tmp_path)
    assert "before and 0.3\u00a0% after. A sign of a backdoor toward “stop” was found before" in headline(piece)
    assert verdict(piece)[1].level == "note", "nothing is gone where nothing was"


def test_a_wrecked_network_is_called_one_and_its_evidence_nothing(tmp_path):
    rows = [{"class": "stop", "before": seen(190, anomaly=5.3), "after": seen(200, anomaly=7.6)}]
    after = {"answered": {"before": [50, 50], "after": [4, 96]}, "intake": {"classes": ["stop", "yield"]}}
    lay(tmp_path, example(classes=rows, reported=[[10, 80, 0, 10]], **after))
    said = headline(pieces(tmp_path)[0])
    assert "The network is wrecked: it answers 10\u00a0% of the pictures right, before it was 90\u00a0%." in said
    assert "It answers “yield” to 96\u00a0% of them. What is found in such a network says nothing" in said
    assert "still there" not in said
    lay(tmp_path, example(classes=rows, reported=[[10, 80, 0, 10]]))
    assert "of them" not in headline(pieces(tmp_path)[0]), "which answer it gives is not known"
    lay(tmp_path, example(classes=rows, reported=[[46, 44, 0, 10]], **after))
    assert "wrecked" not in headline(pieces(tmp_path)[0]), "half of it is left"


@pytest.mark.parametrize(
    ("classes", "after", "said"),
    [
        (
            2,
            199,
            "before, one small change sent 100\u00a0% of the pictures to “ill”, which 2 classes are too few to judge. ",
        ),
        (
            2,
            199,
            "After, one small change sends 100\u00a0% of the pictures to “ill”, which 2 classes are too few to judge. ",
        ),
        (2, 20, "to “ill”, which 2 classes are too few to judge; no sign of one is found after. "),
        (5, 199, "After, one small change sends 100\u00a0% of the pictures to “ill”, which others do not set apart. "),
    ],
)
def test_a_class_that_nothing_can_be_compared_with_is_not_called_chance(tmp_path, classes, after, said):
    counts = [(199, after), *[(190, 190) if classes > 2 else (8, 8)] * (classes - 1)]
    patch = {"mask": 0.05, "anomaly": 0.4}
    names = ["ill", *map(str, range(1, classes))]
    rows = [{"class": n, "before": seen(b, **patch), "after": seen(a, **patch)} for n, (b, a) in zip(names, counts)]
    lay(tmp_path, example(classes=rows))
    (piece,) = pieces(tmp_path)
    assert said in f"{headline(piece)} "
    assert "as chance may have it" not in headline(piece)


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (True, ", and its success counted on 160 others that nothing was trained on. The open"),
        (False, ", and its success counted on 160 others that the method had, too, which flatters the network after."),
        (None, " of 4 on 256 clean pictures. The open"),
    ],
)
def test_the_page_says_what_success_was_counted_on(tmp_path, apart, said):
    assert said in page(tmp_path, example(patches_on=256, judged_on=160, judged_apart=apart)).said


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            3.8,
            "Whether there was a backdoor is undecided: “stop” (anomaly index 3.8) stood out a little before, as",
        ),
        (1.0, "No sign of a backdoor was found, before or after"),
    ],
)
def test_what_a_scan_leaves_open_is_left_open_here_too(tmp_path, before, said):
    rows = [{"class": "stop", "before": seen(10, anomaly=before), "after": seen(10, anomaly=1.0)}]
    rows += [{"class": str(i), "before": seen(10), "after": seen(10)} for i in range(4)]
    lay(tmp_path, example(classes=rows, judged_on=39))
    assert said in headline(pieces(tmp_path)[0])
    assert "This was judged on 39 pictures, which are few." in headline(pieces(tmp_path)[0])
    lay(tmp_path, example(classes=rows, judged_on=40))
    assert "which are few" not in headline(pieces(tmp_path)[0])


def test_the_choice_says_what_it_is_compared_with(tmp_path):
    made = example()
    made["notes"]["beta"] |= {"given_accuracy": 0.97, "control_accuracy": 0.914}
    said = page(tmp_path, made).said
    assert "counted from the 91.4 % that the mildest training keeps of them" in said
    made["notes"]["beta"] |= {"unit": "times the released betas, here 1/2/3"}
    assert "Chosen: 8 times the released betas, here 1/2/3, on 96" in page(tmp_path, made).said
    made["notes"]["beta"] |= {"control_accuracy": 0.98}
    assert "the mildest training" not in page(tmp_path, made).said


@pytest.mark.parametrize(("reached", "doubted"), [(10, True), (90, True), (190, False), (None, True)])
def test_a_sign_that_was_a_patch_alone_may_have_been_chance(tmp_path, reached, doubted):
    before = {"mask": 0.02, "anomaly": 6.1, "success": 0.99} | ({} if reached is None else seen(reached))
    rows = [{"class": "stop", "before": before, "after": seen(10, anomaly=1.0)}]
    rows += [{"class": str(i), "before": seen(10), "after": seen(10)} for i in range(4)]
    lay(tmp_path, example(classes=rows))
    said = headline(pieces(tmp_path)[0])
    assert "“stop” was found before, and none is found after." in said
    lay(tmp_path, example(classes=[*rows, {"class": "unseen", "before": {}, "after": {}}]))
    unseen = headline(pieces(tmp_path)[0])
    assert "and none is found after, but 1 of 6 classes were not looked at." in unseen
    assert ("It was the size of a patch alone" in said) is doubted


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([90, 10, 0, 0], "fell by 10.0 points, more than chance explains"),
        ([90, 3, 2, 5], "fell by 1.0 points, which chance can explain"),
        ([80, 0, 20, 0], "rose by 20.0 points, more than chance explains"),
        ([100, 0, 0, 0], "Accuracy stayed."),
        ([29, 7, 4, 0], "which chance can explain. So few pictures cannot tell that from a loss of 24 points."),
    ],
)
def test_a_change_of_accuracy_is_told_from_chance(tmp_path, table, said):
    lay(tmp_path, example(reported=[table]))
    assert said in headline(pieces(tmp_path)[0])
    (told, *_) = verdict(pieces(tmp_path)[0])
    assert ("So few pictures" in told.text) is ("So few pictures" in said)
    assert (told.level == "good") is ("So few" not in said and "fell by 10.0" not in said)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [  # Newcombe (1998), table II, method 10; first less second there
        ((36, 12, 2, 0), -0.3404, -0.0569),
        ((18, 12, 2, 18), -0.3290, -0.0562),
        ((53, 0, 0, 1), -0.0729, 0.0729),
        ((1, 1, 7, 12), 0.0256, 0.5069),  # Fagerland, Lydersen and Laake (2014), the airway example
    ],
)
def test_the_paired_interval_is_the_published_one(table, low, high):
    change = Pair.of("", table).change
    assert (change.low, change.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))
    assert change.value == pytest.approx((table[2] - table[1]) / sum(table))


def test_intervals_of_a_rate_and_of_two_separate_ones():
    low, high = wilson(Count(95, 100))  # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.95996
    assert (low, high) == (pytest.approx(0.888250, abs=1e-5), pytest.approx(0.978456, abs=1e-5))
    change = Pair.apart("", (48, 80), (56, 70)).change  # Newcombe (1998), comparison (a), method 10
    assert (change.low, change.high) == (pytest.approx(0.0524, abs=6e-5), pytest.approx(0.3339, abs=6e-5))


def test_numbers_that_are_none_are_left_out(tmp_path):
    rows = [
        {
            "class": "a",
            "before": {"mask": float("nan"), "anomaly": None},
            "after": {"mask": 0.1, "anomaly": float("inf")},
        }
    ]
    made = page(tmp_path, example(classes=rows, weights={"relative": float("nan"), "layers": []}))
    assert not re.search(r"\b(nan|inf)\b", made.said)
    assert "not measured / 10.0 %" in made.said


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "..", "", "a/b.png", None])
def test_nothing_outside_the_folder_gets_into_the_page(tmp_path, name):
    picture = EXAMPLE["evidence"]["pictures"][0] | {"file": name}
    for data in (example(pictures=[picture]), [EXAMPLE | {"folder": name}]):
        lay(tmp_path, data)
        with pytest.raises(NadError, match="expected a plain name inside its folder"):
            dossier.write(tmp_path)


def test_what_is_named_as_a_picture_has_to_be_one(tmp_path):
    lay(tmp_path, EXAMPLE)
    (tmp_path / "attention.png").write_text("no picture")
    with pytest.raises(NadError, match=r"attention\.png: expected a PNG picture beside result.json"):
        dossier.write(tmp_path)
    secret = tmp_path / "secret.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(secret)
    (tmp_path / "attention.png").unlink()
    (tmp_path / "attention.png").symlink_to(secret)
    with pytest.raises(NadError, match=r"attention\.png: expected a PNG picture"):
        dossier.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("data", [{}, [], [1], "text", {"method": "nad"}])
def test_a_file_that_is_no_result_is_refused(tmp_path, data):
    with pytest.raises(NadError, match=r"result\.json: expected the result of a purification, or a list of them"):
        page(tmp_path, data)


@pytest.mark.parametrize("part", ["reported", "classes", "shift", "weights", "references", "intake"])
@pytest.mark.parametrize("value", [[3], "text", 7])
def test_evidence_of_another_shape_is_an_error_of_one_line(tmp_path, part, value):
    with pytest.raises(NadError, match=r"result\.json: expected what nad purify writes, got \w+: [^\n]*\Z"):
        page(tmp_path, example(**{part: value}))
    assert not (tmp_path / "report.html").exists()


def test_a_history_of_nothing_draws_nothing(tmp_path):
    data = EXAMPLE | {"evidence": {}, "notes": {}}
    assert len(page(tmp_path, data).plots) == 4
    (tmp_path / "history.csv").write_text("\n")
    assert not Page(dossier.write(tmp_path).read_text(encoding="utf-8")).plots
    (tmp_path / "history.csv").write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(NadError, match=r"history\.csv: expected a table of one row an epoch"):
        dossier.write(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path, monkeypatch):
    page(tmp_path, EXAMPLE | {"evidence": {}, "notes": {}}, history=False)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nad.report.dossier.page.os.replace", full)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(NadError, match=r"cannot write .*report.html: No space left on device"):
        dossier.write(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob(".report*"))
