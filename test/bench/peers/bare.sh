# The statement as it is, with nothing behind it.
#
# shellcheck shell=bash

bare_label() { echo "bare statement"; }
bare_missing() { :; }
bare_install() { :; }
bare_capture() { :; }
bare_settle() { :; }
