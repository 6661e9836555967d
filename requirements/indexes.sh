# shellcheck shell=bash
# Sourced. `read_indexes <python>` sets `indexes` and `links`: uv's arguments for the indexes that pip is configured with,
# since uv reads no pip.conf.
read_indexes() {
  local key value item
  indexes=()
  links=()
  while IFS='=' read -r key value; do
    value=${value//\'/}
    for item in $value; do
      case $key in
        *.index-url) indexes+=(--default-index "$item") ;;
        *.extra-index-url) indexes+=(--index "$item") ;;
        *.find-links) links+=(--find-links "$item") ;;
        *.cert) export SSL_CERT_FILE="${SSL_CERT_FILE:-$item}" ;;
      esac
    done
  done < <("$1" -m pip config list)
}
