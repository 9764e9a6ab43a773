"""How good the tests are: coverage of branches (covered.py) and mutants that no test notices (mutants.py)."""
