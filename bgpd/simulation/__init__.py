"""Whole fabrics in one process and in simulated time: bgpd itself, over modelled networks, kernels and leaves
(docs/simulation.md). The daemon imports none of it."""
