# make build   programs in build/release/bin/
# make demo    the bundled pair through separate draft and verifier processes
# make test    everything that is checked, with minutes per phase
# make sim     SEEDS=10000: fresh schedules of faults against the scheduler core, in virtual time
# make bench   microbenchmarks: ops, scheduler core, journal, sampler, relay between processes
.PHONY: help build demo test sim bench tidy clean

# Objects are found again in any checkout of the same sources.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := true

help:
	@sed -n 's/^# make /make /p' Makefile

build/.setup: tools/setup.sh
	@tools/setup.sh
	@mkdir -p build && touch $@

build/release/build.ninja: | build/.setup
	@cmake --preset release >build/release-configure.log || { cat build/release-configure.log; exit 1; }

build: build/.setup build/release/build.ninja
	@cmake --build --preset release

demo: build
	@tools/demo.sh

test:
	@tools/run_tests.sh

SEEDS ?= 10000
sim: build/.setup build/release/build.ninja
	@cmake --build --preset release --target core_sim
	@build/release/bin/core_sim --seeds $(SEEDS)

bench: build
	@for name in ops core journal sampler relay; do echo "== $$name"; build/release/bench/$${name}_bench; done

tidy:
	@python3 tools/tidy/tidy.py

clean:
	rm -rf build
