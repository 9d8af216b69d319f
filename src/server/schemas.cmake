# cmake -DIN=schemas.json -DOUT=schemas.c -P schemas.cmake: the schemas of answers as bytes of C.
file(READ ${IN} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "#include \"server/openapi.h\"

const char openapi_schemas[] = {${bytes} 0};
")
