/* Who may ask: keys, and which names and pages a browser may come from. */
#ifndef FLUX1_SERVER_ACCESS_H
#define FLUX1_SERVER_ACCESS_H

#include "server/fault.h"
#include "server/server.h"

/* The value of the Authorization header (NULL: none) has one of the keys, "Bearer KEY", or "Basic" with the key as
 * password; or that of the api-key header, Azure's, is one. Takes the same time whichever key it is, and however much
 * of one is right. */
bool access_key(const server_settings *settings, const char *authorization, const char *api_key, fault *f);

/* The Host and Origin headers (NULL: none). A page of another site must not reach a server on this machine through its
 * user's browser: neither by a name of its own that resolves to our address (DNS rebinding: Host must be an address,
 * "localhost", or a name that is allowed), nor by a request across sites (Origin must be this Host, or a name that is
 * allowed; "null", of pages without a host, is such a name, too). */
bool access_names(const server_settings *settings, const char *host, const char *origin, fault *f);

/* Whether browsers are to give a page of this Origin (NULL: none), which is of another host, our answers (CORS): where
 * its name is allowed. "*" allows all of them only where a key is needed, which such a page would have to know. */
bool access_shares(const server_settings *settings, const char *host, const char *origin);

/* The Sec-Fetch-Site header (NULL: none) of a request for `path` that access_names has let pass. A browser sends no
 * Origin with what a page embeds (<img>, <script>), and GET /api/info?model=NAME opens a model: without a key, and
 * without an Origin, a page of another site reaches only the page, the server's health, and pictures whose names it
 * knows. */
bool access_site(const server_settings *settings, const char *path, const char *site, const char *origin, fault *f);

#endif
