"""Fuzz targets: one for each decoder, and whole conversations. `make fuzz-coverage` searches with them (__main__.py);
`make test` tries the inputs of `corpora/` again (test_corpora.py). docs/proof.md says what they hold.
"""
