# Sourced by the scripts in this directory that work on another version of
# PostgreSQL: a chroot of the Debian suite that has it, with Debian's own packages.
#
# A chroot is made once, by debootstrap from the mirror that this machine uses,
# and kept in OUTBOX_CHROOTS (/var/cache/pg_outbox) for the next run: some 2 GB
# each.  Everything that runs in one ends with its namespace.
#
# shellcheck shell=bash

set -euo pipefail

TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CHROOTS=${OUTBOX_CHROOTS:-/var/cache/pg_outbox}
export CI=${CI:-} JOBS=${JOBS:-2}

die()
{
	echo "$(basename "$0"): $*" >&2
	exit 1
}

# cannot REASON: there is no way to a chroot on this machine.  With SMOKE that is
# said, and no failure.
cannot()
{
	[ -n "${SMOKE:-}" ] || die "$@"
	echo "$(basename "$0"): not run, since no chroot can be made here: $*"
	exit 0
}

# The suite of Debian that has the version.
suite_of()
{
	case $1 in
		13) echo bullseye ;;
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo sid ;;
		19) echo experimental ;;
		*) die "no suite of Debian has PostgreSQL $1: choose from 13 15 17 18 19" ;;
	esac
}

# experimental holds only what differs from sid
base_suite_of()
{
	local suite
	suite=$(suite_of "$1")
	if [ "$suite" = experimental ]; then
		suite=sid
	fi
	echo "$suite"
}

# The mirror that this machine gets Debian's main suites from.
mirror()
{
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(COMPONENT)' 'Created-By: Packages' |
		awk '$2 == "Debian" && $3 == "main" && $1 !~ /security/ { print $1; exit }'
}

# What apt is told here about reaching the mirror holds in the chroot, too.
configure_apt()
{
	local root=$1 version=$2 from=$3 suite

	apt-config dump Acquire |
		grep -E '^Acquire::(Check-|Retries|http|https|ForceIPv4|ForceIPv6)' \
			>"$root/etc/apt/apt.conf.d/90machine" || true
	if [ -e /etc/resolv.conf ]; then
		cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	fi
	suite=$(suite_of "$version")
	{
		echo "deb $from $(base_suite_of "$version") main"
		echo "deb-src $from $(base_suite_of "$version") main"
		if [ "$suite" = experimental ]; then
			echo "deb $from experimental main"
		fi
	} >"$root/etc/apt/sources.list"
	if [ "$suite" = experimental ]; then
		printf 'Package: *postgresql* libpq* libecpg* libpgtypes*\nPin: release a=experimental\nPin-Priority: 900\n' \
			>"$root/etc/apt/preferences.d/postgresql"
	fi

	# no package starts anything, and none makes a cluster
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	mkdir -p "$root/etc/postgresql-common"
	echo "create_main_cluster = false" >"$root/etc/postgresql-common/createcluster.conf"
}

# enter ROOT COMMAND...: in the chroot; everything goes with the namespace.
enter()
{
	local root=$1
	shift

	unshare --mount --pid --fork --kill-child bash -c '
		set -e
		root=$1
		shift
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs tmpfs "$root/tmp" -o mode=1777
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
			LC_ALL=C DEBIAN_FRONTEND=noninteractive CI="$CI" JOBS="$JOBS" "$@"
	' enter "$root" "$@" </dev/null
}

# The package's scripts of 13 look for their own place by a fixed path: this one
# answers from where it lies.
write_pg_config()
{
	local root=$1 version=$2

	cat >"$root/usr/local/bin/pg_config" <<-END
		#!/bin/sh
		exec /usr/lib/postgresql/$version/bin/pg_config "\$@"
	END
	chmod 755 "$root/usr/local/bin/pg_config"
}

# 13's package of headers has no isolationtester: it is built from the sources.
build_isolation_tester()
{
	local root=$1 version=$2

	# shellcheck disable=SC2016	# the chroot's shell expands it
	enter "$root" bash -ec '
		target=/usr/lib/postgresql/$1/lib/pgxs/src/test/isolation
		[ ! -x "$target/isolationtester" ] || exit 0
		apt-get -q -y install --no-install-recommends build-essential bison flex dpkg-dev \
			libreadline-dev zlib1g-dev
		mkdir -p /root/source
		cd /root/source
		apt-get -q -y source "postgresql-$1"
		cd "postgresql-$1"*/
		./configure --without-icu
		make -s -j "${JOBS:-2}" -C src/backend generated-headers
		make -s -j "${JOBS:-2}" -C src/test/isolation all
		mkdir -p "$target"
		install src/test/isolation/isolationtester src/test/isolation/pg_isolation_regress "$target"
		rm -rf /root/source
	' build "$version"
}

# A failure leaves no chroot: each step says so itself, since errexit is off in
# what a caller tests.
make_chroot()
{
	local version=$1 root=$2 from base

	from=$(mirror)
	[ -n "$from" ] || { echo "apt names no mirror of Debian: run apt-get update"; return 1; }
	base=$(base_suite_of "$version")
	rm -rf "$root" "$root.new"
	mkdir -p "$CHROOTS"
	debootstrap --variant=minbase "$base" "$root.new" "$from" \
		"/usr/share/debootstrap/scripts/$([ -e "/usr/share/debootstrap/scripts/$base" ] && echo "$base" || echo sid)" ||
		return 1
	configure_apt "$root.new" "$version" "$from"
	write_pg_config "$root.new" "$version"
	enter "$root.new" apt-get -q -y update || return 1
	enter "$root.new" apt-get -q -y install --no-install-recommends \
		"postgresql-$version" "postgresql-server-dev-$version" gcc libc6-dev make || return 1
	if [ "$version" = 13 ]; then
		build_isolation_tester "$root.new" "$version" || return 1
	fi
	mv "$root.new" "$root"
}

# copy_tree_into ROOT: the tree as it is, to /src there, where the objects of the
# last run stay for the next.
copy_tree_into()
{
	mkdir -p "$1/src"
	find "$1/src" -mindepth 1 -maxdepth 1 ! -name .build -exec rm -rf {} +
	tar -C "$TREE" -cf - --exclude=./.git --exclude=./.build --exclude='*.[od]' --exclude='*.so' \
		--exclude=./results --exclude=./tmp_check --exclude=./dist \
		--exclude='./pg_outbox--*.sql' . |
		tar -C "$1/src" --no-same-owner -xf -
}

# Chroots and namespaces are root's.
become_root()
{
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || cannot "neither root nor sudo"
		[ -z "${SMOKE:-}" ] || sudo -n true 2>/dev/null || cannot "sudo asks for a password"
		exec sudo --preserve-env=VERSIONS,SMOKE,ASSERTS,PLAIN,OUTBOX_CHROOTS,LOGS,CI,JOBS "$0" "$@"
	fi
	unshare --mount --pid --fork true 2>/dev/null || cannot "no namespaces"
	command -v apt-get >/dev/null || cannot "no apt-get"
	if ! command -v debootstrap >/dev/null; then
		{ apt-get -q -y update && DEBIAN_FRONTEND=noninteractive apt-get -q -y \
			--no-install-recommends install debootstrap; } >/dev/null 2>&1 ||
			cannot "debootstrap cannot be installed"
	fi
}
