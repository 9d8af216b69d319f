# cmake -DIN=index.html -DOUT=page.c -P embed.cmake: the page as bytes of C, and the Content-Security-Policy that lets its one style and its one script run and
# nothing else.

# 'sha256-…' of what stands between <tag> and </tag>, in base64 as a policy has it. Lengths and places are bytes, here and in the browser.
function(hash_of tag out)
  string(FIND "${page}" "<${tag}>" begin)
  string(FIND "${page}" "</${tag}>" end)
  string(LENGTH "<${tag}>" skip)
  if(begin LESS 0 OR end LESS begin)
    message(FATAL_ERROR "${IN} has no <${tag}>")
  endif()
  math(EXPR begin "${begin} + ${skip}")
  math(EXPR count "${end} - ${begin}")
  string(SUBSTRING "${page}" ${begin} ${count} text)
  string(SHA256 hex "${text}")
  set(letters "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  set(hash "")
  foreach(at RANGE 0 60 6) # three bytes are four letters; 32 bytes and one of padding, whose letter is '='
    string(SUBSTRING "${hex}00" ${at} 6 three)
    foreach(shift 18 12 6 0)
      math(EXPR index "(0x${three} >> ${shift}) & 63")
      string(SUBSTRING "${letters}" ${index} 1 letter)
      string(APPEND hash ${letter})
    endforeach()
  endforeach()
  string(SUBSTRING "${hash}" 0 43 hash)
  set(${out} "'sha256-${hash}='" PARENT_SCOPE)
endfunction()

include(${CMAKE_CURRENT_LIST_DIR}/../../../cmake/embed.cmake)
file(READ ${IN} page)
hash_of(style style)
hash_of(script script)
embed(${IN} ${OUT} server/page.h page_html "const char page_policy[] = \"default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; style-src ${style}; \"
                           \"script-src ${script}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\";
")
