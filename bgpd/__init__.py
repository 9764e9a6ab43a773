"""bgpd: a BGP-EVPN routing daemon for the servers of a routed data centre."""

__version__ = "0.1.0"
