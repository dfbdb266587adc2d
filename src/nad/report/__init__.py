"""Tables, plots and pages: pure functions of the result files. Imports no torch."""
