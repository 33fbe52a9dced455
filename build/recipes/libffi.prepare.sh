# The source package has no configure script.
./autogen.sh
