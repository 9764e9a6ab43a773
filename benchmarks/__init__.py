"""Benchmarks of bgpd beside BIRD, FRR, GoBGP, ExaBGP and the kernel's own limit; docs/performance.md explains them."""
