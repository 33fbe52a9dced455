# Every module of the standard library inside libpython3.13.a; no shared library, no modules beside it.
# What configure finds out by running programs is given here: nice(), for example, seems broken to a build with nice 19.
options=
[ "$BUILD_PYTHON" = self ] || options="--build=x86_64-pc-linux-gnu --host=$HOST --with-build-python=$BUILD_PYTHON"
LIBS_OF() { printf -- '-L%s/lib -l%s' "$DEPS" "$1"; }
export PKG_CONFIG_LIBDIR=/nonexistent CPPFLAGS="-I$DEPS/include" LDFLAGS="-L$DEPS/lib" \
  LIBSQLITE3_CFLAGS="-I$DEPS/include" LIBSQLITE3_LIBS="$(LIBS_OF sqlite3)" \
  LIBFFI_CFLAGS="-I$DEPS/include" LIBFFI_LIBS="$(LIBS_OF ffi)" ZLIB_CFLAGS="-I$DEPS/include" ZLIB_LIBS="$(LIBS_OF z)"
# shellcheck disable=SC2086
./configure $options --prefix="$PREFIX" --with-openssl="$DEPS" --without-ensurepip --disable-test-modules \
  --without-readline --with-computed-gotos ac_cv_buggy_getaddrinfo=no ac_cv_broken_nice=no ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no \
  $(for module in _bz2 _lzma _tkinter readline _curses _curses_panel _dbm _gdbm _uuid nis _crypt; do
      printf 'py_cv_module_%s=n/a ' $module; done) MODULE_BUILDTYPE=static
make -j"$JOBS"
# Three kinds of .pyc of everything cost a minute and are of no use here.
make install COMPILEALL_OPTS=-l
# Nuitka links one archive: the libraries go into it. Its probe of the interpreter fails on _pyrepl without curses.
rm -rf "$PREFIX/lib/python3.13/_pyrepl" "$PREFIX/lib/python3.13/test" "$PREFIX/lib/python3.13/idlelib"
{
  echo "CREATE merged.a"
  echo "ADDLIB libpython3.13.a"
  for library in "$DEPS"/lib/*.a Modules/_decimal/libmpdec/libmpdec.a Modules/expat/libexpat.a \
    Modules/_hacl/libHacl_Hash_SHA2.a; do echo "ADDLIB $library"; done
  echo SAVE
  echo END
} >merge.mri
$AR -M <merge.mri
$STRIP -g merged.a
find "$PREFIX/lib" -name libpython3.13.a -exec cp merged.a {} \;
cp merged.a "$PREFIX/lib/libpython3.13.a"
