# For scripts that are run at build time: a file as bytes of C.
# embed(IN OUT HEADER NAME TAIL): OUT has `const char NAME[]`, `const size_t NAME_size`, which HEADER declares, and behind them TAIL.
function(embed in out header name tail)
  file(READ ${in} bytes HEX)
  string(LENGTH "${bytes}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  file(WRITE ${out} "#include \"${header}\"

const char ${name}[] = {${bytes}};
const size_t ${name}_size = ${size};
${tail}")
endfunction()
