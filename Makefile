# pg_outbox: built with PGXS, like every extension:
#
#     make && sudo make install && make installcheck
#
# `make check` needs no installation and no running server; see tools/README.md.

EXTENSION = pg_outbox
MODULE_big = pg_outbox
.DEFAULT_GOAL := all
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)

SOURCES := $(sort $(wildcard src/*.c src/*/*.c))
OBJS := $(SOURCES:.c=.o)

# Debian's PGXS does not track headers, so gcc writes the dependencies.
PG_CPPFLAGS = -Isrc -MMD -MP -DOBX_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
ifneq ($(filter-out 0 false,$(CI) $(WERROR)),)
PG_CFLAGS += -Werror
endif
# Our own assertions, against a server that is built without.
ifneq ($(filter-out 0 false,$(ASSERTS)),)
PG_CPPFLAGS += -DUSE_ASSERT_CHECKING
endif
# Rows, index entries and numbers the way PostgreSQL itself writes them: slower,
# and the same bytes.  To tell apart what a new major version has changed.
ifneq ($(filter-out 0 false,$(PLAIN)),)
PG_CPPFLAGS += -DOBX_PLAIN
endif
SHLIB_LINK = -Wl,--version-script=src/exports.map

# The install script is the parts of sql/manifest in their order; an update
# script is the hand-written change of state, sql/update/FROM--TO.sql, with
# all code parts behind it.
SQL_PARTS := $(addprefix sql/,$(shell awk '/^(state|code)/ { print $$2 }' sql/manifest))
CODE_PARTS := $(addprefix sql/,$(shell awk '/^code/ { print $$2 }' sql/manifest))
UPDATES := $(sort $(wildcard sql/update/*--*.sql))
SCRIPT = $(EXTENSION)--$(EXTVERSION).sql
DATA_built = $(SCRIPT) $(UPDATES:sql/update/%=$(EXTENSION)--%)

REGRESS := $(sort $(basename $(notdir $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test
ISOLATION := $(sort $(basename $(notdir $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test
PROVE_TESTS := $(sort $(wildcard test/t/*.pl))
ifneq ($(PROVE_TESTS),)
TAP_TESTS = 1
override PROVE_FLAGS += -I test/t
endif

EXTRA_CLEAN = $(EXTENSION)--*.sql $(OBJS:.o=.d) test/expected test/results \
	results regression.diffs regression.out output_iso tmp_check .build

# What tools/ does needs no PGXS, whose own "check" only says that it is not
# supported.
TOOL_GOALS = deb dist check check-versions lint indent demo bench bench-quick
lint:
	@tools/setup
	@tools/lint
indent:
	@tools/indent
deb:
	@tools/setup deb
	@tools/deb
dist:
	@tools/dist
check-versions:
	@tools/check-versions $(TESTS)
demo:
	@tools/setup server
	@tools/with-server --preload -c "track_commit_timestamp = on" test/demo/run
bench:
	@tools/setup server
	@test/bench/bench
bench-quick:
	@tools/setup server
	@BENCH_SIZE=quick test/bench/bench
.PHONY: $(TOOL_GOALS)

ifneq ($(or $(filter-out $(TOOL_GOALS),$(MAKECMDGOALS)),$(if $(MAKECMDGOALS),,all)),)

# Bitcode for the JIT would need clang and serve nothing here.
override with_llvm = no

# An include of nothing is no error to make, which would then build nothing.
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(PGXS),)
$(error "$(PG_CONFIG)" is missing or cannot be run. Install PostgreSQL's development files (on Debian: postgresql-server-dev-NN), or name its program: make PG_CONFIG=/path/to/pg_config)
endif
ifneq ($(shell test -r '$(PGXS)' && echo yes),yes)
$(error PostgreSQL's makefile "$(PGXS)", named by "$(PG_CONFIG)", is missing. Install the development files of that PostgreSQL (on Debian: postgresql-server-dev-NN), or name another one: make PG_CONFIG=/path/to/pg_config)
endif
include $(PGXS)

$(OBJS): Makefile
$(shlib): src/exports.map
-include $(wildcard $(OBJS:.o=.d))

all installcheck: test/expected

# The client program has a Makefile of its own, for PGXS builds a module or a
# program.
all: program
program:
	@$(MAKE) -C src/bin all PG_CONFIG='$(PG_CONFIG)'
install: install-program
install-program:
	@$(MAKE) -C src/bin install PG_CONFIG='$(PG_CONFIG)' DESTDIR='$(DESTDIR)'
uninstall: uninstall-program
uninstall-program:
	@$(MAKE) -C src/bin uninstall PG_CONFIG='$(PG_CONFIG)' DESTDIR='$(DESTDIR)'
clean: clean-program
clean-program:
	@$(MAKE) -C src/bin clean PG_CONFIG='$(PG_CONFIG)'
.PHONY: program install-program uninstall-program clean-program

# Expected output has no warning that the library is not preloaded.
installcheck: export PGOPTIONS += -c outbox.max_workers=0

# PostgreSQL 15's pg_regress looks for expected/ in its input directory only.
test/expected:
	ln -sfn ../expected $@

# The install script must create and never replace: an object of the same name
# may have been planted.  An update script must replace.
$(SCRIPT): $(SQL_PARTS) sql/manifest $(EXTENSION).control Makefile
	@{ printf "%s\n" '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	   sed 's/^CREATE OR REPLACE /CREATE /' $(SQL_PARTS); } > $@.tmp
	mv $@.tmp $@

$(EXTENSION)--%.sql: sql/update/%.sql $(CODE_PARTS) sql/manifest Makefile
	@{ printf "%s\n" '\echo Use "ALTER EXTENSION $(EXTENSION) UPDATE" to load this file. \quit'; \
	   cat $<; \
	   sed -E 's/^CREATE (FUNCTION|PROCEDURE|VIEW|AGGREGATE) /CREATE OR REPLACE \1 /' $(CODE_PARTS); } > $@.tmp
	mv $@.tmp $@

endif

ifneq ($(filter check,$(MAKECMDGOALS)),)
check:
	@tools/setup
	@tools/check $(TESTS)
endif
