/*
 * Does an event match a subscription?
 */
#ifndef OBX_MATCH_H
#define OBX_MATCH_H

/*
 * Does the string match the pattern?  "*" stands for any run of characters,
 * everything else for itself.  Bytes are compared.
 */
extern bool obx_pattern_matches(const char *pattern, const char *string, int length);

/* Does it match any of them? */
extern bool obx_patterns_match(char *const *patterns, int npatterns, const char *string,
							   int length);

#endif							/* OBX_MATCH_H */
