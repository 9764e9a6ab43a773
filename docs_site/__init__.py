"""The documentation site: pages of docs/ and pages made of the code, which mkdocs renders (`make docs`)."""
