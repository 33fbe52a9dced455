# Certificates of the machine: the agent names its bundle itself, /etc/ssl is the fallback of most systems.
# Left out: what TLS of today and Python's ssl module do not use. It saves half of the compiler's time.
env -u CFLAGS ./Configure "$OPENSSL_TARGET" no-shared no-tests no-apps no-docs no-legacy no-engine no-module \
  no-aria no-bf no-camellia no-cast no-cmp no-cms no-ct no-des no-dsa no-dtls no-gost no-http no-idea no-md4 \
  no-mdc2 no-ml-dsa no-slh-dsa no-ocb no-quic no-rc2 no-rc4 no-rfc3779 no-rmd160 no-scrypt no-seed no-siphash \
  no-siv no-sm2 no-sm3 no-sm4 no-srp no-srtp no-ssl3 no-ssl-trace no-ts no-ui-console no-uplink no-whirlpool \
  --prefix="$PREFIX" --libdir=lib --openssldir=/etc/ssl $CFLAGS
make -j"$JOBS" build_libs
make install_dev
