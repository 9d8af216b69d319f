/* libcurl and OpenSSL's libcrypto, opened when they are first needed: flux1 starts without them, and no other command
 * loads them. */
#ifndef FLUX1_FETCH_LIBRARIES_H
#define FLUX1_FETCH_LIBRARIES_H

#include "base/status.h"

#define CURL_DISABLE_TYPECHECK /* its macros stand in the way of calls through pointers */
#include <curl/curl.h>
#include <openssl/evp.h>

#define FETCH_CURL_FUNCTIONS(X) \
    X(curl_easy_cleanup)        \
    X(curl_easy_getinfo)        \
    X(curl_easy_init)           \
    X(curl_easy_reset)          \
    X(curl_easy_setopt)         \
    X(curl_easy_strerror)       \
    X(curl_global_init)         \
    X(curl_multi_add_handle)    \
    X(curl_multi_cleanup)       \
    X(curl_multi_info_read)     \
    X(curl_multi_init)          \
    X(curl_multi_perform)       \
    X(curl_multi_poll)          \
    X(curl_multi_remove_handle) \
    X(curl_slist_append)        \
    X(curl_slist_free_all)

#define FETCH_CRYPTO_FUNCTIONS(X) \
    X(EVP_DigestFinal_ex)         \
    X(EVP_DigestInit_ex)          \
    X(EVP_DigestUpdate)           \
    X(EVP_MD_CTX_free)            \
    X(EVP_MD_CTX_new)             \
    X(EVP_sha1)                   \
    X(EVP_sha256)

typedef struct fetch_libraries {
#define FETCH_POINTER(name) __typeof__(name) *name;
    FETCH_CURL_FUNCTIONS(FETCH_POINTER)
    FETCH_CRYPTO_FUNCTIONS(FETCH_POINTER)
#undef FETCH_POINTER
} fetch_libraries;

/* *out lives as long as the process. FLUX1_ERR_UNSUPPORTED, naming the library that cannot be opened. */
flux1_status fetch_libraries_load(const fetch_libraries **out, flux1_error *err);

#endif
