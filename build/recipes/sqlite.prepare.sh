# SQLite as one C file, made by its own scripts (tclsh).
CC=gcc ./configure --disable-tcl --disable-readline
make sqlite3.c
