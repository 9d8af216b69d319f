#include "cli/names.h"

#include <string.h>

/* Levenshtein distance of two words shorter than 64 bytes. */
static int distance(const char *a, const char *b)
{
    int row[64];
    int n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[n];
}

const char *nearest_name(const char *word, const char *(*next)(int index))
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 1; /* farther than that is another word */
    if (strlen(word) >= 64)
        return NULL;
    for (int i = 0; next(i); i++) {
        int d = distance(word, next(i));
        if (d <= least && (!best || d < least)) {
            least = d;
            best = next(i);
        }
    }
    return best;
}

bool names_equal(const char *a, const char *b)
{
    while (*a && (*a == *b || (*a == '_' && *b == '-')))
        a++, b++;
    return !*a && !*b;
}
