mkdir -p "$PREFIX/lib" "$PREFIX/include"
$CC $CFLAGS -DSQLITE_THREADSAFE=1 -DSQLITE_ENABLE_MATH_FUNCTIONS -c sqlite3.c -o sqlite3.o
$AR rcs "$PREFIX/lib/libsqlite3.a" sqlite3.o
cp sqlite3.h sqlite3ext.h "$PREFIX/include"
