# Helpers of the scripts in this folder, which source this file. POSIX sh.

say() {
    printf '==> %s\n' "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Prints the package manager of this machine, or nothing.
package_manager() {
    for manager in apt-get dnf apk brew; do
        if have "$manager"; then
            echo "$manager"
            return
        fi
    done
}

# Prints the one command with which a person installs a package.
install_command() {
    case $(package_manager) in
        apt-get) echo "sudo apt-get update && sudo apt-get install -y $1" ;;
        dnf) echo "sudo dnf install -y $1" ;;
        apk) echo "sudo apk add $1" ;;
        brew) echo "brew install $1" ;;
    esac
}

# Runs a command as root: directly, or through sudo where that needs no password or somebody can enter it.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@"
    else
        return 1
    fi
}

# Installs one package. The exit code is not 0 where that failed.
install_package() {
    case $(package_manager) in
        apt-get)
            # A fresh machine has no package lists yet.
            as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 &&
                as_root env DEBIAN_FRONTEND=noninteractive \
                    apt-get install -y -qq --no-install-recommends "$1" >&2
            ;;
        dnf) as_root dnf install -y "$1" >&2 ;;
        apk) as_root apk add "$1" >&2 ;;
        brew) brew install "$1" >&2 ;;
        *) return 1 ;;
    esac
}

# ensure_package WHAT PACKAGE: announces and installs a package, or says how to do it by hand.
ensure_package() {
    manager=$(package_manager)
    if [ -z "$manager" ]; then
        fail "$1 is missing, and there is no apt-get, dnf, apk or brew to install it with; install it and try again"
    fi
    say "$1 is missing: installing the package $2 with $manager"
    install_package "$2" ||
        fail "could not install $2; run this and try again:
    $(install_command "$2")"
}
