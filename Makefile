# bgpd: set-up, laboratory, tests. `make` alone lists the targets.
#
# Everything below works on a fresh Debian 12 as root. Set-up runs when something it depends on has changed, else not.

SHELL := /bin/sh
.DEFAULT_GOAL := help
# Debian's Python, which the package uses, too: one that pyenv builds is slower by a fifth and more. Elsewhere: the first in PATH.
PYTHON3 = $(shell /usr/bin/python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo /usr/bin/python3 || echo python3)
PYTHON := .venv/bin/python
TOPOLOGY := labs/containerlab/two-leaf.clab.yml
FEEDS := labs/containerlab/feeds.clab.yml
FAULTS := labs/containerlab/faults.clab.yml
GUESTS := labs/containerlab/guests.clab.yml
EVPN := labs/containerlab/evpn-two-tenant.clab.yml
TESTS := tests
MINUTES := 10
HOURS := 8

# A Debian kernel in user mode, for what this machine's kernel may lack.
IN_GUEST := $(PYTHON) -m tests.vm.guest --timeout 900 --

# Where `make install` puts bgpd (its unit starts it from there), with which Python, and a root for all of it (packages).
PREFIX := /opt/bgpd
INSTALL_PYTHON = $(PYTHON3)
DESTDIR :=
VENV = $(DESTDIR)$(PREFIX)
UNIT = $(DESTDIR)/etc/systemd/system/bgpd.service
DRAIN_UNIT = $(DESTDIR)/etc/systemd/system/bgpd-drain.service
BFD_UNIT = $(DESTDIR)/etc/systemd/system/bgpd-bfd.service
SHARE = $(DESTDIR)/usr/local/share
MADE_BY = $(VENV)/bin/python -P -B -m bgpd
IS_OURS = test -n "$(DESTDIR)" || ! dpkg-query --search $(PREFIX)/pyvenv.cfg >/dev/null 2>&1 || \
  { echo "$(PREFIX) is the Debian package's: apt remove bgpd, or another place: PREFIX="; exit 1; }
INSTALLED := /usr/local/bin/bgpd /etc/systemd/system/bgpd.service /etc/systemd/system/bgpd-drain.service \
  /etc/systemd/system/bgpd-bfd.service /etc/sysusers.d/bgpd.conf /etc/sysctl.d/90-bgpd.conf \
  /etc/systemd/networkd.conf.d/90-bgpd.conf /etc/iproute2/rt_protos.d/bgpd.conf \
  /usr/local/share/man/man1/bgpd.1 /usr/local/share/man/man1/bgpd-*.1 /usr/local/share/man/man5/bgpd.toml.5 \
  /usr/local/share/bash-completion/completions/bgpd /usr/local/share/zsh/site-functions/_bgpd \
  /usr/local/share/fish/vendor_completions.d/bgpd.fish

.PHONY: help setup lab lab-keep lab-down lab-faults lab-feeds lab-guests lab-see lab-evpn lab-evpn-vm test test-all test-vm simulate chaos soak fuzz fuzz-coverage coverage mutants lint audit format bench wheel \
  docs sdist deb pictures lock install install-python install-files install-pages uninstall clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo "\nset-up installs, where missing, from Debian: $$(sed 's/#.*//' labs/debian-packages.txt | xargs)"
	@echo "and into .venv: what requirements.lock pins; test-vm downloads user-mode-linux, busybox-static and tcc, and installs none of them"

setup: .venv/.packages .venv/.installed ## install Debian packages and .venv (the other targets do it themselves)

.venv/.packages: labs/debian-packages.txt labs/install-packages
	@labs/install-packages
	@mkdir -p .venv && touch $@

.venv/.installed: requirements.lock pyproject.toml .venv/.packages
	@echo "Installing Python packages from requirements.lock into .venv"
	@test -x $(PYTHON) || $(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lab: setup ## two leaves, two hosts, their pods: bring it up, check, break, show, tear down
	@$(PYTHON) -m labs run $(TOPOLOGY)

lab-faults: setup ## what faults, restarts, maintenance and changes cost, one after the other under counted packets
	@$(PYTHON) -m labs run $(FAULTS)

lab-feeds: setup ## workloads by MQTT and API, aggregates, a service: what a dead broker, a restart, a failed backend cost
	@$(PYTHON) -m labs run $(FEEDS)

lab-guests: setup ## ExaBGP, GoBGP and a raw speaker speak through the host's one session: leaks, 100,000 prefixes, each killed
	@$(PYTHON) -m labs run $(GUESTS)

lab-see: setup ## a host's web page while things break; leaves pictures, the journal and a bundle in labs/run/see
	@$(PYTHON) -m labs run --see labs/run/see $(TOPOLOGY)

lab-evpn: setup ## two tenants with the same addresses by EVPN without an overlay; VMs that move
	@$(PYTHON) -m labs run $(EVPN)

lab-evpn-vm: setup ## the same under a Debian kernel of its own, with VRF and VLAN devices
	@$(IN_GUEST) $(PYTHON) -m labs run $(EVPN)

lab-keep: setup ## the network of lab, left up to look around in; TOPOLOGY=FILE for another
	@$(PYTHON) -m labs run --keep $(TOPOLOGY)

lab-down: setup ## remove what lab-keep left up
	@$(PYTHON) -m labs down

test: setup ## the tests, those of test-vm too; TESTS=tests/rib for some, RETRY=1 to try once more up to five that failed
	@$(PYTHON) -m tests.suite $(if $(RETRY),--retry) $(TESTS)

test-all: setup .venv/.proof ## the same, those that take minutes (marked "long"), and the gate of coverage
	@labs/install-packages packages/debian-packages.txt
	@$(PYTHON) -m tests.suite --all $(if $(RETRY),--retry) $(TESTS)
	@$(if $(filter tests,$(TESTS)),$(PYTHON) -m tests.proof.covered)

test-vm: setup ## the tests marked "vm" (VRF, VLAN and dummy devices) under a Debian kernel of their own
	@$(PYTHON) -m tests.suite --vm $(TESTS)

simulate: setup ## fabrics in simulated time; SEEDS=0:1000, or one seed
	@$(PYTHON) -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS))

fuzz: setup ## property tests only, ten rounds, each with new random examples
	@for round in 1 2 3 4 5 6 7 8 9 10; do \
	  $(PYTHON) -m pytest -m hypothesis --hypothesis-profile=default $(TESTS) || exit; \
	done

fuzz-coverage: setup .venv/.proof ## each decoder and whole conversations, searched by coverage; MINUTES=10 for all of them
	@$(PYTHON) -m tests.fuzz --minutes $(MINUTES)

coverage: setup .venv/.proof ## branch coverage of what does no I/O: fails where a package is below 95 %
	@$(PYTHON) -m tests.proof.covered

mutants: setup ## faults put into decision, attribute rules, session and reconciler: which does no test notice?
	@$(PYTHON) -m tests.proof.mutants

.venv/.proof: tests/proof/requirements.lock .venv/.installed
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/proof/requirements.lock
	@touch $@

chaos: setup ## random faults on a host with four leaves and a broker: MINUTES=10 SEED=N, or STEPS=FILE of a run that failed (docs/chaos.md)
	@$(PYTHON) -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS))

soak: setup ## the same for hours: HOURS=8
	@$(PYTHON) -m tests.chaos --minutes $$(($(HOURS) * 60)) $(if $(SEED),--seed $(SEED))

lint: setup ## ruff (with bandit's checks), mypy, licences and known vulnerabilities of what bgpd is built from
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy bgpd labs
	@$(PYTHON) -m labs.dependencies

audit: ## ask PyPI for vulnerabilities that labs/advisories.toml does not know yet
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON3) -m venv .venv-audit && \
	  .venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@for lock in requirements.lock requirements-host.lock docs_site/requirements.lock; do \
	  .venv-audit/bin/pip-audit --progress-spinner off --disable-pip --require-hashes -r $$lock || exit; done

format: setup ## ruff format
	@$(PYTHON) -m ruff format .

bench: setup ## the benchmarks, and how they compare with BIRD and FRR
	@$(PYTHON) -m benchmarks

wheel: setup ## the wheel into dist, compiled, and unpacked in dist/compiled (tests and benchmarks do it themselves)
	@$(PYTHON) -m labs.forms

sdist: setup ## the source distribution into dist
	@$(PYTHON) -m hatchling build --target sdist --directory dist

deb: ## the Debian package into dist, for the Debian that builds it: all libraries in it, below /opt/bgpd (docs/install.md)
	@packages/build-deb dist

docs: setup .venv-docs/.installed ## the documentation site into dist/site, from docs/ and from the code; a wrong link is an error
	@$(PYTHON) -m docs_site dist/site-pages
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	@echo "dist/site/index.html"

.venv-docs/.installed: docs_site/requirements.lock
	@test -x .venv-docs/bin/python || $(PYTHON3) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs_site/requirements.lock
	@touch $@

pictures: setup ## the pictures of docs/page.md, docs/demo.md and docs/concepts.md, made anew
	@$(PYTHON) -m tests.daemon.page_pictures
	@$(PYTHON) -m docs_site.drawings
	@$(PYTHON) -m docs_site.terminal docs/demo.svg $(PYTHON) -m bgpd demo --no-prompt

lock: setup ## write requirements.lock, and those for servers, anew from pyproject.toml
	@.venv/bin/pip-compile --quiet --upgrade --extra dev --build-deps-for editable --generate-hashes --allow-unsafe \
	  --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file requirements.lock pyproject.toml
	@.venv/bin/pip-compile --quiet --upgrade --constraint requirements.lock --generate-hashes \
	  --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file requirements-host.lock pyproject.toml
	@.venv/bin/pip-compile --quiet --upgrade --constraint requirements.lock --build-deps-for wheel --generate-hashes \
	  --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file requirements-build.lock pyproject.toml
	@.venv/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file docs_site/requirements.lock docs_site/requirements.in
	@.venv/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file tests/proof/requirements.lock tests/proof/requirements.in

install: ## on a server: bgpd into PREFIX, its unit and kernel settings; or an upgrade. Starts nothing, keeps an existing configuration
	@$(IS_OURS)
	@$(MAKE) --no-print-directory install-python
	@$(MAKE) --no-print-directory install-files
	@$(MAKE) --no-print-directory install-pages
	@echo "Installed: $$($(VENV)/bin/python -P -m bgpd --version)"
	@echo "First time: bgpd init --output /etc/bgpd/bgpd.toml (or bgpd import), edit it; bgpd check; systemd-sysusers;"
	@echo "            sysctl --system; systemctl daemon-reload; systemctl enable --now bgpd"
	@echo "With bfd:   systemctl enable --now bgpd-bfd; after an upgrade: systemctl reload bgpd-bfd"
	@echo "Upgrade:    systemctl daemon-reload; bgpd upgrade (checks first; sessions go on, routes stay in the kernel)"

install-python: # what of `install` is Python
	@$(INSTALL_PYTHON) systemd/check_python.py $(PREFIX) $(VENV)
	umask 022 && $(INSTALL_PYTHON) -m venv $(VENV)
	umask 022 && $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-host.lock
	umask 022 && systemd/build-wheel $(INSTALL_PYTHON) $(VENV)
	test -z "$(DESTDIR)" || grep -rlI "$(VENV)" $(VENV)/bin $(VENV)/pyvenv.cfg | xargs -r sed -i 's|$(VENV)|$(PREFIX)|g'

install-files: # what of `install` is not Python
	install -d $(DESTDIR)/etc/bgpd/conf.d $(DESTDIR)/usr/local/bin
	ln -sf $(PREFIX)/bin/bgpd $(DESTDIR)/usr/local/bin/bgpd
	test -e $(DESTDIR)/etc/bgpd/bgpd.toml || { install -m 644 conf/first.toml $(DESTDIR)/etc/bgpd/bgpd.toml && \
	  sed -i 's|/opt/bgpd|$(PREFIX)|g' $(DESTDIR)/etc/bgpd/bgpd.toml; }
	install -D -m 644 systemd/bgpd.service $(UNIT)
	install -D -m 644 systemd/bgpd-drain.service $(DRAIN_UNIT)
	install -D -m 644 systemd/bgpd-bfd.service $(BFD_UNIT)
	sed -i 's|/opt/bgpd|$(PREFIX)|g' $(UNIT) $(DRAIN_UNIT) $(BFD_UNIT)
	install -D -m 644 conf/sysusers.d/bgpd.conf $(DESTDIR)/etc/sysusers.d/bgpd.conf
	install -D -m 644 conf/sysctl.d/90-bgpd.conf $(DESTDIR)/etc/sysctl.d/90-bgpd.conf
	install -D -m 644 conf/networkd/90-bgpd.conf $(DESTDIR)/etc/systemd/networkd.conf.d/90-bgpd.conf
	install -D -m 644 conf/rt_protos.d/bgpd.conf $(DESTDIR)/etc/iproute2/rt_protos.d/bgpd.conf

install-pages: # what of `install` the program makes itself: manual pages and completion
	umask 022 && $(MADE_BY) man $(SHARE)/man
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	umask 022 && $(MADE_BY) completion bash >$(SHARE)/bash-completion/completions/bgpd
	umask 022 && $(MADE_BY) completion zsh >$(SHARE)/zsh/site-functions/_bgpd
	umask 022 && $(MADE_BY) completion fish >$(SHARE)/fish/vendor_completions.d/bgpd.fish

uninstall: ## removes what install put there; not the configuration, saved state, user and kernel routes (bgpd flush)
	@$(IS_OURS)
	@if [ -z "$(DESTDIR)" ] && systemctl is-active --quiet bgpd 2>/dev/null; then \
	  echo "bgpd runs. First: systemctl disable --now bgpd; to take its routes from the kernel too: bgpd flush"; exit 1; fi
	@test -x $(VENV)/bin/bgpd -a -e $(VENV)/pyvenv.cfg || ! test -e $(VENV) || { echo "$(VENV) is no virtual environment with bgpd: PREFIX?"; exit 1; }
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	rm -rf $(VENV)
	@echo "Left: /etc/bgpd, /var/lib/bgpd, the user bgpd. Then: systemctl daemon-reload"

clean: ## remove laboratories left up, .venv and caches
	@if [ -x $(PYTHON) ] && [ -f .venv/.installed ]; then $(PYTHON) -m labs down; fi
	rm -rf .venv .venv-audit .fuzz .mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
