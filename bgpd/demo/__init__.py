"""`bgpd demo`: two hosts and two leaves, all of them bgpd, in network namespaces of this machine (docs/demo.md)."""
