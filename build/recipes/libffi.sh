./configure --host="$HOST" --prefix="$PREFIX" --libdir="$PREFIX/lib" --disable-shared --enable-static \
  --disable-docs --disable-multi-os-directory
make -j"$JOBS" MAKEINFO=:
make install MAKEINFO=:
