/*
 * What subcommands write to stdout.
 *
 * Text from the database is made harmless on its way to people; to programs it
 * goes as it is.
 */
#include "cli/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/log.h"

static void
require_written(bool written)
{
	/* who closed the pipe has seen enough */
	if (!written && errno == EPIPE)
		exit(OBX_EXIT_OK);
	if (!written)
		obx_die(OBX_EXIT_ERROR, "could not write to standard output: %s", strerror(errno));
}

void
obx_output_write(const ObxText *text)
{
	require_written(fwrite(text->data, 1, text->length, stdout) == text->length);
}

void
obx_output_line(const char *line)
{
	require_written(puts(line) >= 0);
}

void
obx_output_flush(void)
{
	require_written(fflush(stdout) == 0);
}

bool
obx_output_has_colour(void)
{
	static int	known = -1;

	if (known < 0)
	{
		const char *none = getenv("NO_COLOR");
		const char *terminal = getenv("TERM");

		known = isatty(STDOUT_FILENO) && (none == NULL || none[0] == '\0') &&
			terminal != NULL && strcmp(terminal, "dumb") != 0;
	}
	return known;
}

const char *
obx_output_dim(void)
{
	return obx_output_has_colour() ? "\033[2m" : "";
}

const char *
obx_output_red(void)
{
	return obx_output_has_colour() ? "\033[31m" : "";
}

const char *
obx_output_bold(void)
{
	return obx_output_has_colour() ? "\033[1m" : "";
}

const char *
obx_output_plain(void)
{
	return obx_output_has_colour() ? "\033[0m" : "";
}

void
obx_output_row(const PGresult *row, void *unused)
{
	(void) unused;
	obx_output_line(PQgetvalue(row, 0, 0));
}

/* ---- tables ---- */

/* How many columns of a terminal the text takes. */
static int
width_of(const char *text)
{
	wchar_t		wide[256];
	size_t		length;
	int			width;

	if (strlen(text) >= sizeof(wide) / sizeof(wide[0]))
		return strlen(text);
	length = mbstowcs(wide, text, sizeof(wide) / sizeof(wide[0]));
	if (length == (size_t) - 1)
		return strlen(text);
	width = wcswidth(wide, length);
	return width >= 0 ? width : (int) strlen(text);
}

static char *
visible(const char *value)
{
	ObxText text;

	obx_text_init(&text);
	obx_text_append_visible(&text, value);
	return text.data;
}

static bool
is_number(const PGresult *rows, int column)
{
	/* int2, int4, int8, float8, numeric */
	switch (PQftype(rows, column))
	{
		case 20:
		case 21:
		case 23:
		case 701:
		case 1700:
			return true;
	}
	return false;
}

static void
add_cell(ObxText *line, const char *cell, int width, bool right, bool last)
{
	int			padding = width - width_of(cell);

	if (right)
		obx_text_printf(line, "%*s", padding, "");
	obx_text_append_string(line, cell);
	if (!last)
		obx_text_printf(line, "%*s  ", right ? 0 : padding, "");
}

static void
print_line(const PGresult *rows, char **cells, const int *width, int last)
{
	ObxText		line;

	obx_text_init(&line);
	for (int i = 0; i < PQnfields(rows); i++)
		if (width[i] > 0)
			add_cell(&line, cells[i], width[i], is_number(rows, i), i == last);
	obx_text_append_char(&line, '\n');
	obx_output_write(&line);
	obx_text_free(&line);
}

void
obx_output_table(const PGresult *rows, bool brief)
{
	int			ncolumns = PQnfields(rows);
	int			nrows = PQntuples(rows);
	char	  **cells = obx_allocate((size_t) (nrows + 1) * ncolumns * sizeof(char *));
	int		   *width = obx_allocate(ncolumns * sizeof(int));
	int			last = 0;

	for (int i = 0; i < ncolumns; i++)
	{
		bool		empty = true;

		for (int row = 0; row <= nrows; row++)
		{
			char	   *cell = visible(row == 0 ? PQfname(rows, i) : PQgetvalue(rows, row - 1, i));

			cells[row * ncolumns + i] = cell;
			if (row > 0 && cell[0] != '\0')
				empty = false;
			if (width_of(cell) > width[i])
				width[i] = width_of(cell);
		}
		if (empty && brief)
			width[i] = 0;
		else
			last = i;
	}
	for (int row = 0; row <= nrows; row++)
	{
		if (row == 0)
			fputs(obx_output_bold(), stdout);
		print_line(rows, &cells[row * ncolumns], width, last);
		if (row == 0)
			fputs(obx_output_plain(), stdout);
	}
	for (int i = 0; i < (nrows + 1) * ncolumns; i++)
		free(cells[i]);
	free(cells);
	free(width);
}
