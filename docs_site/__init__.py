"""The documentation site: gathers the pages of docs/ and what is made of the code, for mkdocs to render (`make docs`)."""
