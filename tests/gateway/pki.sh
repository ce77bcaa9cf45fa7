# Makes authorities, certificates and revocation lists for the tests of client certificates, in the
# folder that is named first. Everything is made by openssl, so that nothing of ours made what we judge.
set -eu
cd "$1"
now=$(date -u +%Y%m%d%H%M%SZ)
past() { date -u -d "$1" +%Y%m%d%H%M%SZ; }

# authority NAME [ISSUER EXTENSIONS]: a CA with its own register, self-signed or issued by another.
authority() {
  name=$1; issuer=${2:-}; extra=${3:-}
  mkdir -p "$name.d"; : > "$name.d/index.txt"; echo 10 > "$name.d/serial"; echo 01 > "$name.d/crlnumber"
  cat > "$name.conf" <<EOF
[ca]
default_ca = me
[me]
database = $name.d/index.txt
new_certs_dir = $name.d
serial = $name.d/serial
certificate = $name.pem
private_key = $name.key
default_md = sha256
policy = any
unique_subject = no
crlnumber = $name.d/crlnumber
crl_extensions = list
[list]
authorityKeyIdentifier = keyid
[any]
commonName = supplied
EOF
  openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
  printf 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n%s\n' "$extra" > "$name.ext"
  openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
  if [ -z "$issuer" ]; then
    openssl x509 -req -in "$name.csr" -signkey "$name.key" -days 3650 -sha256 -extfile "$name.ext" -out "$name.pem"
  else
    openssl ca -batch -notext -config "$issuer.conf" -in "$name.csr" -days 3650 -extfile "$name.ext" -out "$name.pem"
  fi
}

# leaf NAME ISSUER SAN [EKU START END]
leaf() {
  name=$1; issuer=$2; san=$3; eku=${4:-clientAuth}
  start=${5:-$(past '1 hour ago')}; end=${6:-$(past '30 days')}
  openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
  openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
  printf 'basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$eku" "$san" > "$name.ext"
  openssl ca -batch -notext -config "$issuer.conf" -in "$name.csr" -startdate "$start" -enddate "$end" -extfile "$name.ext" -out "$name.pem"
}

authority server
authority one
authority two
authority stranger
authority narrow one "nameConstraints=critical,permitted;DNS:allowed.example.com"
leaf site server "DNS:localhost,DNS:strict.example.com,DNS:other.example.com,DNS:a.wild.example.com" serverAuth

leaf good one "URI:spiffe://example.org/ns/prod/api"
# For gates whose clock is set: it holds whatever time it is here.
leaf ages one "URI:spiffe://example.org/ns/prod/ages" clientAuth 20200101000000Z 20491231235959Z
leaf ages-over one "URI:spiffe://example.org/ns/prod/ages" clientAuth 20200101000000Z 20210101000000Z
leaf ages-revoked one "URI:spiffe://example.org/ns/prod/ages" clientAuth 20200101000000Z 20491231235959Z
leaf ages-test one "URI:spiffe://example.org/ns/test/ages" clientAuth 20200101000000Z 20491231235959Z
leaf ages-double one "URI:spiffe://example.org/ns/prod/a,URI:spiffe://example.org/ns/prod/b" clientAuth 20200101000000Z 20491231235959Z
leaf ages-strange stranger "URI:spiffe://example.org/ns/prod/ages" clientAuth 20200101000000Z 20491231235959Z
leaf partner one "DNS:api.partner.example,DNS:elsewhere.example"
leaf unlisted one "URI:spiffe://example.org/ns/test/api"
leaf twofold one "DNS:x.many.example,DNS:y.many.example"
leaf double one "URI:spiffe://example.org/ns/prod/api,URI:spiffe://example.org/ns/prod/b"
leaf expired one "URI:spiffe://example.org/ns/prod/api" clientAuth "$(past '2 days ago')" "$(past '1 day ago')"
leaf early one "URI:spiffe://example.org/ns/prod/api" clientAuth "$(past '1 day')" "$(past '2 days')"
leaf purpose one "URI:spiffe://example.org/ns/prod/api" serverAuth
leaf revoked one "URI:spiffe://example.org/ns/prod/api"
leaf later one "URI:spiffe://example.org/ns/prod/later"
leaf unknown stranger "URI:spiffe://example.org/ns/prod/api"
leaf theirs two "URI:spiffe://example.org/ns/prod/api"
leaf constrained narrow "DNS:api.partner.example"
leaf permitted narrow "DNS:x.allowed.example.com"
# a.b NUL c
leaf nul one "DER:30:07:82:05:61:2E:62:00:63"
cat narrow.pem >> constrained.pem
cat narrow.pem >> permitted.pem
openssl ecparam -name prime256v1 -genkey -noout -out selfsigned.key
openssl req -x509 -new -key selfsigned.key -subj "/CN=one" -days 30 -addext "subjectAltName=URI:spiffe://example.org/ns/prod/api" -out selfsigned.pem

openssl ca -config one.conf -revoke revoked.pem
openssl ca -config one.conf -revoke ages-revoked.pem
openssl ca -config one.conf -gencrl -crldays 30 -out one.crl
openssl ca -config narrow.conf -gencrl -crldays 30 -out narrow.crl
cat one.crl narrow.crl > lists.crl
# What `one` says after it has revoked `later` too, and a list whose time is over.
openssl ca -config one.conf -revoke later.pem
openssl ca -config one.conf -gencrl -crldays 30 -out one-next.crl
cat one-next.crl narrow.crl > next.crl
openssl ca -config one.conf -gencrl -crl_lastupdate "$(past '3 days ago')" -crl_nextupdate "$(past '1 day ago')" -out ended.crl
chmod 600 ./*.key
