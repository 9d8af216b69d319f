# cmake -DIN=index.html -DOUT=page.c -P embed.cmake: the page as bytes of C.
file(READ ${IN} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "#include \"server/page.h\"\n\nconst char page_html[] = {${bytes}};\nconst size_t page_html_size = ${size};\n")
