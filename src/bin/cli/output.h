/*
 * What subcommands write to stdout.
 */
#ifndef OBX_BIN_OUTPUT_H
#define OBX_BIN_OUTPUT_H

#include <stdbool.h>

#include <libpq-fe.h>

#include "base/text.h"

/* Writes the text; a full disk or a closed pipe ends the program. */
extern void obx_output_write(const ObxText *text);
extern void obx_output_line(const char *line);
extern void obx_output_flush(void);

/* Are colours wanted: a terminal, and no NO_COLOR. */
extern bool obx_output_has_colour(void);

/* ANSI's code for it, or "" where no colours are wanted. */
extern const char *obx_output_dim(void);
extern const char *obx_output_red(void);
extern const char *obx_output_bold(void);
extern const char *obx_output_plain(void);

/*
 * A table with a heading; numbers stand to the right.  Columns that are empty
 * in all rows are left out if "brief".
 */
extern void obx_output_table(const PGresult *rows, bool brief);

/* A row's first column as a line: for JSON.  An ObxRowFunction. */
extern void obx_output_row(const PGresult *row, void *unused);

#endif							/* OBX_BIN_OUTPUT_H */
