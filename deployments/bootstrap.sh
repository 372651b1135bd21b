#!/bin/sh
# Completes .venv from uv.lock: `bootstrap.sh` to run, `bootstrap.sh dashboard` with the dashboard,
# `bootstrap.sh dev` to test as well.
# Safe to run again, and after an interruption: a stamp is written only when a step has ended.
set -eu
cd "$(dirname "$0")/.."

uv_version=0.13.9
python=.venv/bin/python

say() { printf 'set-up: %s\n' "$*" >&2; }

fail() {
  printf 'error[configuration]: %s\n' "$*" >&2
  exit 2
}

fits() { # Python 3.11, 3.12 or 3.13, and it runs: a version manager's shim may exist and fail
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2> /dev/null
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || fail "PYTHON=$PYTHON: expected a Python 3.11, 3.12 or 3.13 that runs"
    printf '%s' "$PYTHON"
    return
  fi
  for name in python3.13 python3.12 python3.11 python3 python; do
    if fits "$name"; then
      printf '%s' "$name"
      return
    fi
  done
  fail "no Python 3.11, 3.12 or 3.13 on PATH: install one, or name it with PYTHON=/path/to/python"
}

make_environment() {
  found="$(find_python)"
  say "making .venv with $("$found" --version)"
  "$found" -m venv --clear .venv ||
    fail "$found cannot make a virtual environment: on Debian and Ubuntu, install python3-venv"
}

has_uv() { [ "$(.venv/bin/uv --version 2> /dev/null | cut -d' ' -f2)" = "$uv_version" ]; }

is_wanted() { # .venv runs, and was made with the Python that PYTHON names, if it names one
  fits $python || return 1
  if [ -z "${PYTHON:-}" ]; then return 0; fi
  fits "$PYTHON" || fail "PYTHON=$PYTHON: expected a Python 3.11, 3.12 or 3.13 that runs"
  [ "$(base "$PYTHON")" = "$(base $python)" ]
}

base() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)'; }

install_uv() {
  say "installing uv $uv_version into .venv"
  $python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
}

stamp() { # names what it stands for: lock, project and place (a moved folder breaks the scripts' first lines)
  { cat uv.lock pyproject.toml && pwd; } | cksum
}

is_current() { # with the test tools counts for running, too
  for kind in "$1" dev; do
    if [ "$(cat ".venv/.installed-$kind" 2> /dev/null)" = "$(stamp)" ]; then return 0; fi
  done
  return 1
}

install_locked() {
  say "installing what uv.lock names (about a minute the first time)"
  case "$1" in
    dev) groups='--group dev --extra dashboard' ;;
    dashboard) groups='--extra dashboard' ;;
    *) groups= ;;
  esac
  quiet=--quiet
  if [ -t 2 ]; then quiet=; fi
  # The project's own Python only: uv neither downloads one nor looks for another environment. --inexact leaves the
  # test tools of an earlier `make test` in place.
  # shellcheck disable=SC2086 # both are lists of options
  UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON="$python" UV_PYTHON_DOWNLOADS=never \
    .venv/bin/uv sync --frozen --compile-bytecode --inexact $groups $quiet
  stamp > ".venv/.installed-$1"
}

# Behind a proxy that re-signs, only the machine's own certificates will do, as they do for pip; where it has none, uv's.
if [ -n "$(ls /etc/ssl/certs 2> /dev/null)" ]; then export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"; fi

unset VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE || true
kind="${1:-run}"
if is_wanted && is_current "$kind"; then exit 0; fi
if ! is_wanted || ! $python -m pip --version > /dev/null 2>&1; then make_environment; fi
if ! has_uv; then install_uv; fi
install_locked "$kind"
