CHOST=$HOST ./configure --static --prefix="$PREFIX"
make -j"$JOBS" libz.a
make install
