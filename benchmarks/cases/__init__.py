"""One module for each case; each has `jobs(options)`, and its title is the first line of its docstring."""
