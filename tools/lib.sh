# Sourced by the scripts in this directory: a private copy of the PostgreSQL
# installation with the extension in it, and servers that run from it.
#
# Nothing here writes to the system's PostgreSQL, talks to a server that it did
# not start, or leaves its directory.  A directory made by workspace_create or
# workspace_use looks like this:
#
#   src/   the tree that is built, copied, since root's checkout may be
#          unreadable to the user that runs the server
#   pg/    the private installation, under the paths of the real one
#   data/ sock/ server.log   the server, where there is one
#   home/ tmp/               for the tests
#
# shellcheck shell=bash

set -euo pipefail

TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SYSTEM_PG_CONFIG=$(command -v "${PG_CONFIG:-pg_config}" || true)
WORK=
BINDIR=

# A developer's own settings must not lead us to another server.
unset PGDATABASE PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGPASSFILE \
	PGSERVICE PGSERVICEFILE PGOPTIONS PGDATA PGTZ PGDATESTYLE PG_CONFIG \
	MAKEFLAGS MAKELEVEL MFLAGS
export LC_ALL=C PAGER=

die()
{
	echo "$(basename "$0"): $*" >&2
	exit 1
}

say()
{
	echo "== $*"
}

# PostgreSQL refuses to run as root.
unprivileged_user()
{
	if [ -n "${OUTBOX_USER:-}" ]; then
		echo "$OUTBOX_USER"
	elif id postgres >/dev/null 2>&1; then
		echo postgres
	else
		echo nobody
	fi
}

# Run a command in the workspace as somebody who may run a server: the caller,
# or for root the user above.
as_unprivileged()
{
	(
		cd "$WORK"
		# shellcheck disable=SC2030,SC2031	# for the command alone
		export HOME="$WORK/home" TMPDIR="$WORK/tmp"
		if [ "$(id -u)" -eq 0 ]; then
			local user
			user=$(unprivileged_user)
			export USER="$user" LOGNAME="$user"
			exec setpriv --reuid="$user" --regid="$(id -g "$user")" \
				--init-groups "$@"
		else
			exec "$@"
		fi
	)
}

give_to_unprivileged()
{
	if [ "$(id -u)" -eq 0 ]; then
		chown -R "$(unprivileged_user):" "$1"
	fi
}

# A fresh directory that goes when the script ends.  The path is short, because
# a socket's may have 107 bytes only.
workspace_create()
{
	# shellcheck disable=SC2031
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/pg_outbox.XXXXXX")
	trap workspace_remove EXIT
	trap 'exit 130' INT
	trap 'exit 129' HUP
	trap 'exit 143' TERM
	workspace_use "$WORK"
}

workspace_use()
{
	WORK=$1
	mkdir -p "$WORK"/{src,pg,home,tmp,sock}
	chmod 755 "$WORK"
	give_to_unprivileged "$WORK"
}

workspace_remove()
{
	local status=$?

	trap '' INT HUP TERM
	set +e
	stop_servers
	if [ -n "${KEEP:-}" ]; then
		echo "kept $WORK" >&2
	else
		rm -rf "$WORK"
	fi
	exit "$status"
}

# Stop what still runs on a data directory under the workspace.  A postmaster's
# working directory is its data directory, so a reused pid is not mistaken.
stop_servers()
{
	local file pid dir

	find "$WORK" -name postmaster.pid 2>/dev/null | while read -r file; do
		dir=$(dirname "$file")
		pid=$(head -n 1 "$file")
		[ "$(readlink "/proc/$pid/cwd")" = "$dir" ] || continue
		kill -QUIT "$pid" 2>/dev/null
		for _ in $(seq 100); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
	done
}

# Bring src/ to the state of the tree.  Objects stay, for the next build; a file
# that went from the tree goes here as well.
copy_tree()
{
	find "$WORK/src" -mindepth 1 ! -type d ! -name '*.[od]' -delete
	tar -C "$TREE" -cf - --exclude=./.git --exclude='*.[od]' --exclude='*.so' \
		--exclude=./results --exclude=./output_iso --exclude=./tmp_check \
		--exclude=./.build --exclude='./pg_outbox--*.sql' \
		--exclude=./src/bin/pg_outbox --exclude=./src/bin/pg_outbox.1 \
		--exclude='./src/bin/*.service' . |
		tar -C "$WORK/src" -xf -
	give_to_unprivileged "$WORK/src"
}

# Where the objects of this tree are kept for the next build: apart for each
# PostgreSQL and each way to build, since make sees neither change.
objects_kept()
{
	local key

	key=$("$SYSTEM_PG_CONFIG" --version --includedir-server 2>/dev/null)
	key+=" ${WERROR:-} ${ASSERTS:-} ${PLAIN:-} ${COPT:-} ${CC:-}"
	echo "$TREE/.build/$(cksum <<<"$key" | cut -d' ' -f1)"
}

# Puts them beside the sources that they were built from: make builds what is
# newer in the tree.  Before copy_tree, which brings the sources.
objects_restore()
{
	local kept

	kept=$(objects_kept)
	[ -d "$kept" ] || return 0
	exec 7>>"$kept.lock"
	flock -s 7
	cp -a "$kept/." "$WORK/src/" || rm -rf "$WORK/src" "$kept"
	exec 7>&-
	mkdir -p "$WORK/src"
}

objects_save()
{
	local kept

	kept=$(objects_kept)
	mkdir -p "$TREE/.build" 2>/dev/null && [ -w "$TREE/.build" ] || return 0
	exec 7>>"$kept.lock"
	flock 7
	rm -rf "$kept.new"
	mkdir "$kept.new"
	(cd "$WORK/src" && find src \( -name '*.o' -o -name '*.d' \) -print0 |
		tar -cf - --null -T -) | tar -C "$kept.new" -xpf -
	rm -rf "$kept"
	mv "$kept.new" "$kept"
	exec 7>&-
}

# Debian's pg_config of 13 reports the paths it was built with, wherever it lies.
relocate_pg_config()
{
	[ "$("$BINDIR/pg_config" --pkglibdir)" = "$("$1" --pkglibdir)" ] || return 0
	cat >"$BINDIR/pg_config.new" <<-END
		#!/bin/sh
		for option; do
			case \$option in
				--*dir | --pgxs) "$1" "\$option" | sed 's!^!$WORK/pg!' ;;
				*) "$1" "\$option" ;;
			esac
		done
		[ \$# -gt 0 ] || exec "$1"
	END
	chmod 755 "$BINDIR/pg_config.new"
	mv "$BINDIR/pg_config.new" "$BINDIR/pg_config"
}

# Mirror the installation under pg/.  PostgreSQL finds its files from where its
# executable lies, after resolving symbolic links: so executables are copied and
# the rest is linked.
mirror_installation()
{
	local bindir libdir sharedir incdir client

	[ -n "$SYSTEM_PG_CONFIG" ] ||
		die "pg_config not found: run tools/setup, or set PG_CONFIG"
	bindir=$("$SYSTEM_PG_CONFIG" --bindir)
	libdir=$("$SYSTEM_PG_CONFIG" --pkglibdir)
	sharedir=$("$SYSTEM_PG_CONFIG" --sharedir)
	incdir=$("$SYSTEM_PG_CONFIG" --includedir-server)
	BINDIR=$WORK/pg$bindir

	[ ! -e "$BINDIR/postgres" ] || return 0
	mkdir -p "$BINDIR" "$WORK/pg$libdir" "$WORK/pg$sharedir" \
		"$(dirname "$WORK/pg$incdir")"
	cp -pL --reflink=auto "$bindir"/* "$BINDIR/"
	find "$libdir" -mindepth 1 -maxdepth 1 ! -name bitcode ! -name 'pg_outbox*' \
		-exec ln -sfn -t "$WORK/pg$libdir" {} +
	cp -rs "$sharedir/." "$WORK/pg$sharedir/"
	rm -f "$WORK/pg$sharedir"/extension/pg_outbox*
	ln -sfn "$incdir" "$WORK/pg$incdir"
	relocate_pg_config "$bindir/pg_config"
	# libpq, for programs that are built with our pg_config
	client=$("$SYSTEM_PG_CONFIG" --includedir)
	mkdir -p "$WORK/pg$client"
	find "$client" -maxdepth 1 -type f -exec ln -sfn -t "$WORK/pg$client" {} +
	client=$("$SYSTEM_PG_CONFIG" --libdir)
	mkdir -p "$WORK/pg$client"
	find "$client" -maxdepth 1 -name 'libpq.*' -exec ln -sfn -t "$WORK/pg$client" {} +
	give_to_unprivileged "$WORK/pg"
}

# Build the tree and install it privately; PG_CONFIG names the result.
private_tree()
{
	mirror_installation
	as_unprivileged make -s -C src -j "${JOBS:-2}" all PG_CONFIG="$SYSTEM_PG_CONFIG" >&2
	as_unprivileged make -s -C src install DESTDIR="$WORK/pg" \
		PG_CONFIG="$SYSTEM_PG_CONFIG" >/dev/null
	export PG_CONFIG="$BINDIR/pg_config" PATH="$BINDIR:$PATH"
	[ "$(as_unprivileged pg_config --pkglibdir)" != "$("$SYSTEM_PG_CONFIG" --pkglibdir)" ] ||
		die "$PG_CONFIG does not report its own directory"
}

# server_create [LINE...]: a cluster with these lines in postgresql.conf.
server_create()
{
	as_unprivileged initdb -D data -U postgres -A trust -E UTF8 --no-locale \
		--no-sync >initdb.log 2>&1 || { cat initdb.log >&2; die "initdb failed"; }
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$WORK/sock'"
		echo "log_line_prefix = '%m [%p] %b %q%d %a '"
		echo "max_prepared_transactions = 10"
		printf '%s\n' "$@"
	} | as_unprivileged tee -a data/postgresql.conf >/dev/null
	export PGHOST="$WORK/sock" PGPORT=5432 PGUSER=postgres
}

server_start()
{
	as_unprivileged pg_ctl -D data -l server.log -w -s -t 60 start >&2 || {
		tail -n 30 "$WORK/server.log" >&2
		die "the server does not start"
	}
}

server_stop()
{
	as_unprivileged pg_ctl -D data -w -s -m fast stop
}
