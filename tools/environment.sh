# shellcheck shell=bash
# Sourced by tools/bench, tools/demo, tools/overload, tools/pin and tools/test: finds a Python, makes a virtual environment, says what it does.
# Works in bash 3.2 and later. Sets PROJECT, and in `prepare` also VENV.

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Prints the command of a Python that can be used: $PYTHON if it is set, else the first that fits.
find_python() {
    local fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2])'
    local tried='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'
    local name
    if [ -n "${PYTHON-}" ]; then
        "$PYTHON" -c "$fits" 2>/dev/null || fail "PYTHON=$PYTHON is not a Python of version 3.10 or newer; name one, or unset PYTHON."
        printf '%s\n' "$PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$name" -c "$tried" 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    python3 -c "$fits" 2>/dev/null || fail "no Python from 3.10 to 3.13 was found; install one, or set PYTHON to its path."
    say "This Python is newer than those that were tried (3.10 to 3.13); set PYTHON to the path of another if this fails."
    printf 'python3\n'
}

# prepare FOLDER ARGUMENTS...: makes the virtual environment PROJECT/FOLDER and runs `pip install ARGUMENTS` in it, once for
# each state of setup.py and pyproject.toml. A half-made one is made anew.
prepare() {
    local python wanted log started=$SECONDS
    VENV="$PROJECT/$1"
    shift
    python=$(find_python)
    log="$VENV/install.log"
    wanted="$PROJECT $* $("$python" -c 'import sys; print(sys.version)') $(cat "$PROJECT/setup.py" "$PROJECT/pyproject.toml" | cksum)"
    if [ "$(cat "$VENV/made-for" 2>/dev/null)" = "$wanted" ] && "$VENV/bin/python" -c '' 2>/dev/null; then
        say "Using the environment in ${VENV#"$PROJECT"/}."
        return
    fi
    say "Making a virtual environment in ${VENV#"$PROJECT"/} ($("$python" --version 2>&1))."
    rm -rf "$VENV"
    mkdir -p "$VENV" 2>/dev/null || fail "$PROJECT cannot be written; copy the project to a folder of yours."
    "$python" -m venv "$VENV" >"$log" 2>&1 ||
        fail "'$python -m venv' does not work; install Python's venv module (on Debian and Ubuntu: apt install python3-venv)."
    say "Installing: pip install $*"
    if ! (cd "$PROJECT" && "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input "$@") >>"$log" 2>&1; then
        if grep -q 'No space left' "$log"; then
            fail "the disk is full; 700 MB are needed."
        fi
        fail "pip could not install it. Check the network and pip's settings, then try again; what pip said is in ${VENV#"$PROJECT"/}/install.log."
    fi
    printf '%s' "$wanted" >"$VENV/made-for"
    say "Done in $((SECONDS - started)) s."
}
