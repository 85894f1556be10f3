#!/bin/sh
# Prepares DIR for one broker: certificates in DIR/tls and DIR/server.properties from the template.
# Ports and paths come from the environment; the defaults suit compose.yaml.
set -eu
umask 077

dir=${1:?usage: prepare.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/tls"
dir=$(cd "$dir" && pwd)

port=${INTERLINE_KAFKA_PORT:-9092}
tls_port=${INTERLINE_KAFKA_TLS_PORT:-9093}
mtls_port=${INTERLINE_KAFKA_MTLS_PORT:-9094}
controller_port=${INTERLINE_KAFKA_CONTROLLER_PORT:-9095}
bind=${INTERLINE_KAFKA_BIND:-0.0.0.0}          # inside the container; compose.yaml publishes to loopback only
tls=${INTERLINE_KAFKA_TLS_PATH:-/interline/tls} # where the broker will find DIR/tls
password=${INTERLINE_KAFKA_PASSWORD:-interline}
data=${INTERLINE_KAFKA_DATA_PATH:-/tmp/kafka-data}

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

cd "$dir/tls"
if [ ! -f server.pem ]; then
  authority ca
  authority other-ca # signs nothing: for trying a client that trusts the wrong authority
  # The certificate names localhost and not 127.0.0.1, so that a client can try a host name that does not match.
  leaf server /CN=localhost 'subjectAltName=DNS:localhost'
  leaf client /CN=interline 'extendedKeyUsage=clientAuth'
  cat server.key server.crt ca.pem >server.pem
fi

sed -e "s|@PORT@|$port|g" -e "s|@TLS_PORT@|$tls_port|g" -e "s|@MTLS_PORT@|$mtls_port|g" \
  -e "s|@CONTROLLER_PORT@|$controller_port|g" -e "s|@BIND@|$bind|g" \
  -e "s|@PASSWORD@|$password|" -e "s|@TLS@|$tls|g" -e "s|@DATA@|$data|g" "$here/server.properties" >"$dir/server.properties"
