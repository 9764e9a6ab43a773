"""The JSON views of `bgpd show`, `bgpd explain` and the orders: documented, stable, one schema per view.

Each is what one API endpoint answers, element for element. Times are seconds since the epoch, durations carry their
unit. Addresses and prefixes are text; a family is its configuration name.
"""
