/* The page, as CMake has put it into the program. */
#ifndef FLUX1_SERVER_PAGE_H
#define FLUX1_SERVER_PAGE_H

#include <stddef.h>

extern const char page_html[];
extern const size_t page_html_size;
extern const char
    page_policy[]; /* Content-Security-Policy: the page's style and script by their hashes (page/embed.cmake) */

#endif
