# cmake -DIN=flux1_ttnn.py -DOUT=ttnn_script.c -P embed_worker.cmake: the worker's Python as bytes of C, so that a library always has the worker of its version.
file(READ ${IN} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "#include \"pipeline/ttnn_worker.h\"

const char ttnn_script[] = {${bytes}};
const size_t ttnn_script_size = ${size};
")
