#!/bin/sh
# Prepares DIR for one server: certificates in DIR/tls, and the files of deploy/NAME/config with their @WORDS@
# replaced. The words stand in deploy/NAME/defaults, which suits compose.yaml; INTERLINE_NAME_WORD in the
# environment wins.
set -eu
umask 077

name=${1:?usage: prepare.sh NAME DIR}
dir=${2:?usage: prepare.sh NAME DIR}
here=$(cd "$(dirname "$0")" && pwd)/$name
mkdir -p "$dir/tls"
dir=$(cd "$dir" && pwd)

# authority NAME: a self-signed certificate authority NAME.pem with its key NAME.key
authority() {
  openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 30 -subj "/CN=interline $1" \
    -keyout "$1.key" -out "$1.pem" 2>/dev/null
}

# leaf NAME SUBJECT EXTENSIONS: NAME.crt with NAME.key, signed by the authority "ca"
leaf() {
  openssl req -newkey rsa:2048 -nodes -sha256 -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf '%s\n' "$3" >"$1.ext"
  openssl x509 -req -sha256 -days 30 -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial \
    -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

(
  cd "$dir/tls"
  [ ! -f server.pem ] || exit 0
  authority ca
  authority other-ca # signs nothing: for trying a client that trusts the wrong authority
  # The certificate names localhost and not 127.0.0.1, so that a client can try a host name that does not match.
  leaf server /CN=localhost 'subjectAltName=DNS:localhost'
  leaf client /CN=interline 'extendedKeyUsage=clientAuth'
  cat server.key server.crt ca.pem >server.pem
)

prefix=INTERLINE_$(printf %s "$name" | tr '[:lower:]' '[:upper:]')
replace=
while IFS='=' read -r word value; do
  case $word in '' | \#*) continue ;; esac
  eval "value=\${${prefix}_$word:-\$value}"
  replace="$replace
s|@$word@|$value|g"
done <"$here/defaults"
for file in "$here"/config/*; do
  sed "$replace" "$file" >"$dir/${file##*/}"
done
