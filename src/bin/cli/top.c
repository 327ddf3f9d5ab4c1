/*
 * pg_outbox top: the subscriptions on one screen, refreshed.
 *
 * The screen is made as lines, which --once prints, and which are drawn with
 * ncurses where the program was built with it.  A connection that is lost is
 * made again; what the server refuses is told on the screen.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#ifdef OBX_WITH_NCURSES
#include <curses.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"

#define HEADING_LINES	4		/* above the first subscription */
#define MOST_LETTERS	"100"

typedef enum Order
{
	BY_LAG, BY_NAME, BY_RATE, BY_DEAD, ORDERS
} Order;

static const char *const order_names[] = {"lag", "name", "rate", "dead letters"};

typedef struct Row
{
	char	   *name;
	char	   *kind;
	char	   *state;
	char	   *waiting;
	char	   *error;
	long long	lag;
	long long	delivered;
	long long	retrying;
	long long	parked;
	long long	dead;
	double		rate;			/* per second; below 0: not known yet */
} Row;

typedef struct Top
{
	ObxCall    *call;
	PGconn	   *conn;
	Row		   *rows;
	int			nrows;
	long long	head;
	double		head_rate;
	char	   *workers;
	int64_t		looked;			/* when */
	Order		order;
	int			selected;
	int			scrolled;
	char		message[300];
} Top;

/* ---- looking ---- */

static const char status_sql[] =
"SELECT s.name, s.kind, s.state, s.lag, s.delivered, s.retrying, s.parked, s.dead,"
" coalesce(pg_catalog.date_trunc('second', GREATEST(pg_catalog.clock_timestamp(), s.oldest_pending)"
" OPERATOR(pg_catalog.-) s.oldest_pending)::text, ''), coalesce(s.last_error, ''), s.head"
" FROM outbox.status s";

/* In words: how many processes of each kind are there. */
static const char workers_sql[] =
"SELECT coalesce(pg_catalog.string_agg(pg_catalog.concat(w.n, ' ', w.role, ' ', w.state), ', '"
" ORDER BY w.role, w.state), 'none') FROM (SELECT role, state, pg_catalog.count(*) AS n"
" FROM outbox.worker GROUP BY role, state) w";

static void
free_rows(Row *rows, int count)
{
	for (int i = 0; i < count; i++)
	{
		free(rows[i].name);
		free(rows[i].kind);
		free(rows[i].state);
		free(rows[i].waiting);
		free(rows[i].error);
	}
	free(rows);
}

static char *
visible(const PGresult *result, int row, int column)
{
	ObxText text;

	obx_text_init(&text);
	obx_text_append_visible(&text, PQgetvalue(result, row, column));
	return text.data;
}

static double
rate_of(long long now, long long former, double seconds)
{
	return seconds > 0 && now >= former ? (now - former) / seconds : -1;
}

static void
take_rows(Top *top, const PGresult *result)
{
	int			count = PQntuples(result);
	Row		   *rows = obx_allocate(count * sizeof(Row));
	int64_t		now = obx_now();
	double		seconds = top->looked > 0 ? (now - top->looked) / 1e6 : 0;
	long long	head = count > 0 ? atoll(PQgetvalue(result, 0, 10)) : 0;

	for (int i = 0; i < count; i++)
	{
		Row		   *row = &rows[i];

		row->name = obx_copy_string(PQgetvalue(result, i, 0));
		row->kind = visible(result, i, 1);
		row->state = visible(result, i, 2);
		row->lag = atoll(PQgetvalue(result, i, 3));
		row->delivered = atoll(PQgetvalue(result, i, 4));
		row->retrying = atoll(PQgetvalue(result, i, 5));
		row->parked = atoll(PQgetvalue(result, i, 6));
		row->dead = atoll(PQgetvalue(result, i, 7));
		row->waiting = visible(result, i, 8);
		row->error = visible(result, i, 9);
		row->rate = -1;
		for (int j = 0; j < top->nrows; j++)
			if (strcmp(top->rows[j].name, row->name) == 0)
				row->rate = rate_of(row->delivered, top->rows[j].delivered, seconds);
	}
	top->head_rate = rate_of(head, top->head, seconds);
	top->head = head;
	free_rows(top->rows, top->nrows);
	top->rows = rows;
	top->nrows = count;
	top->looked = now;
}

static Order sort_order;

static int
compare_numbers(double a, double b)
{
	return a > b ? -1 : a < b ? 1 : 0;
}

static int
compare_rows(const void *one, const void *other)
{
	const Row  *a = one;
	const Row  *b = other;
	int			by = 0;

	if (sort_order == BY_LAG)
		by = compare_numbers(a->lag, b->lag);
	else if (sort_order == BY_RATE)
		by = compare_numbers(a->rate, b->rate);
	else if (sort_order == BY_DEAD)
		by = compare_numbers(a->dead, b->dead);
	return by != 0 ? by : strcmp(a->name, b->name);
}

/* The chosen subscription stays chosen, wherever it goes. */
static void
sort_rows(Top *top, const char *chosen)
{
	sort_order = top->order;
	qsort(top->rows, top->nrows, sizeof(Row), compare_rows);
	for (int i = 0; chosen != NULL && i < top->nrows; i++)
		if (strcmp(top->rows[i].name, chosen) == 0)
			top->selected = i;
	if (top->selected >= top->nrows)
		top->selected = top->nrows > 0 ? top->nrows - 1 : 0;
}

/* False if the connection is lost. */
static bool
look(Top *top)
{
	PGresult   *status = obx_query(top->conn, true, status_sql, 0, NULL);
	PGresult   *workers = status != NULL ? obx_query(top->conn, true, workers_sql, 0, NULL) : NULL;
	char	   *chosen = top->nrows > 0 ? obx_copy_string(top->rows[top->selected].name) : NULL;

	if (workers != NULL)
	{
		take_rows(top, status);
		sort_rows(top, chosen);
		free(top->workers);
		top->workers = visible(workers, 0, 0);
	}
	PQclear(status);
	PQclear(workers);
	free(chosen);
	return workers != NULL;
}

/* ---- the screen, as lines ---- */

static void
append_rate(ObxText *line, double rate)
{
	if (rate < 0)
		obx_text_printf(line, " %8s", "-");
	else
		obx_text_printf(line, " %8.0f", rate);
}

static void
make_heading(const Top *top, int number, ObxText *line)
{
	time_t		now = time(NULL);
	char		clock[32];

	switch (number)
	{
		case 0:
			strftime(clock, sizeof(clock), "%H:%M:%S", localtime(&now));
			obx_text_printf(line, "pg_outbox top  %s  database ", clock);
			obx_text_append_visible(line, PQdb(top->conn) != NULL ? PQdb(top->conn) : "");
			obx_text_printf(line, "  head %lld", top->head);
			if (top->head_rate >= 0)
				obx_text_printf(line, " (%.0f/s)", top->head_rate);
			obx_text_printf(line, "  by %s", order_names[top->order]);
			break;
		case 1:
			obx_text_printf(line, "workers: %s", top->workers);
			break;
		case 3:
			obx_text_printf(line, "%-24s %-9s %-8s %10s %8s %9s %7s %7s %7s  %s", "SUBSCRIPTION", "KIND",
							"STATE", "LAG", "RATE/s", "WAITING", "RETRY", "PARKED", "DEAD", "LAST ERROR");
			break;
	}
}

static void
make_row(const Row *row, ObxText *line)
{
	wchar_t		wide[256];
	size_t		length;
	int			width = 0;

	obx_text_append_visible(line, row->name);
	length = mbstowcs(wide, line->data, 256);
	if (length != (size_t) - 1 && length < 256)
		width = wcswidth(wide, length);
	if (width <= 0)
		width = line->length;
	obx_text_printf(line, "%*s", width < 24 ? 24 - width : 0, "");
	obx_text_printf(line, " %-9s %-8s %10lld", row->kind, row->state, row->lag);
	append_rate(line, row->rate);
	obx_text_printf(line, " %9s %7lld %7lld %7lld  %s", row->waiting, row->retrying, row->parked,
					row->dead, row->error);
	while (line->length > 0 && line->data[line->length - 1] == ' ')
		line->data[--line->length] = '\0';
}

static void
print_once(const Top *top)
{
	ObxText		line;

	obx_text_init(&line);
	for (int i = 0; i < HEADING_LINES + top->nrows; i++)
	{
		obx_text_clear(&line);
		if (i < HEADING_LINES)
			make_heading(top, i, &line);
		else
			make_row(&top->rows[i - HEADING_LINES], &line);
		obx_output_line(line.data);
	}
	obx_output_flush();
	obx_text_free(&line);
}

/* ---- the screen, drawn ---- */

#ifdef OBX_WITH_NCURSES

/* As much of the text as has room. */
static void
draw_line(int y, const char *text, int attributes)
{
	wchar_t		wide[1024];
	size_t		length = mbstowcs(wide, text, 1023);
	size_t		shown = 0;
	int			room = COLS;

	if (length == (size_t) - 1)
		length = 0;
	while (shown < length && room >= wcwidth(wide[shown]))
		room -= wcwidth(wide[shown++]);
	wide[shown] = L'\0';
	move(y, 0);
	clrtoeol();
	attrset(attributes);
	addwstr(wide);
	attrset(A_NORMAL);
}

static void
draw(Top *top)
{
	int			room = LINES - HEADING_LINES - 1;
	ObxText		line;

	obx_text_init(&line);
	if (top->selected < top->scrolled)
		top->scrolled = top->selected;
	if (room > 0 && top->selected >= top->scrolled + room)
		top->scrolled = top->selected - room + 1;
	for (int i = 0; i < LINES - 1; i++)
	{
		int			number = i - HEADING_LINES + top->scrolled;
		int			attributes = i == 0 || i == HEADING_LINES - 1 ? A_BOLD : A_NORMAL;

		obx_text_clear(&line);
		if (i < HEADING_LINES)
			make_heading(top, i, &line);
		else if (number < top->nrows)
		{
			make_row(&top->rows[number], &line);
			if (number == top->selected)
				attributes = A_REVERSE;
		}
		draw_line(i, line.data, attributes);
	}
	draw_line(LINES - 1, top->message[0] != '\0' ? top->message :
			  "q quit  s sort  up/down choose  p pause  r resume  d dead letters", A_DIM);
	obx_text_free(&line);
	refresh();
}

/* What the server refuses is told, and no reason to end. */
static void
call_function(Top *top, const char *sql, const char *done)
{
	const char *name;
	PGresult   *result;

	if (top->nrows == 0)
		return;
	name = top->rows[top->selected].name;
	result = PQexecParams(top->conn, sql, 1, NULL, &name, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		snprintf(top->message, sizeof(top->message), "%s %s", name, done);
	else
	{
		const char *why = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

		snprintf(top->message, sizeof(top->message), "%s", why != NULL ? why : PQerrorMessage(top->conn));
	}
	PQclear(result);
}

/* The first dead letters of the chosen subscription, until a key is pressed. */
static void
show_dead_letters(Top *top)
{
	const char *name;
	PGresult   *letters;

	if (top->nrows == 0)
		return;
	name = top->rows[top->selected].name;
	letters = PQexecParams(top->conn, "SELECT d.position, d.type, d.key, d.attempts, d.error"
						   " FROM outbox.dead_letter d WHERE d.subscription OPERATOR(pg_catalog.=) $1"
						   " ORDER BY d.position LIMIT " MOST_LETTERS, 1, NULL, &name, NULL, NULL, 0);
	erase();
	for (int i = -1; i < PQntuples(letters) && i + 1 < LINES - 1; i++)
	{
		ObxText		line;

		obx_text_init(&line);
		if (i < 0)
			obx_text_printf(&line, "%d dead letters of ", PQntuples(letters));
		obx_text_append_visible(&line, i < 0 ? name : PQgetvalue(letters, i, 0));
		for (int column = 1; i >= 0 && column < 5; column++)
		{
			obx_text_append_string(&line, "  ");
			obx_text_append_visible(&line, PQgetisnull(letters, i, column) ? "-" :
									PQgetvalue(letters, i, column));
		}
		draw_line(i + 1, line.data, i < 0 ? A_BOLD : A_NORMAL);
		obx_text_free(&line);
	}
	draw_line(LINES - 1, PQresultStatus(letters) == PGRES_TUPLES_OK ?
			  "any key goes back" : PQresultErrorMessage(letters), A_DIM);
	refresh();
	PQclear(letters);
	timeout(-1);
	getch();
	erase();
}

/* False for the end. */
static bool
obey(Top *top, int key)
{
	top->message[0] = '\0';
	switch (key)
	{
		case 'q':
			return false;
		case 's':
			top->order = (top->order + 1) % ORDERS;
			break;
		case KEY_UP:
		case 'k':
			top->selected -= top->selected > 0;
			break;
		case KEY_DOWN:
		case 'j':
			top->selected += top->selected + 1 < top->nrows;
			break;
		case 'p':
			call_function(top, "SELECT outbox.pause($1)", "is paused");
			break;
		case 'r':
			call_function(top, "SELECT outbox.resume($1)", "goes on");
			break;
		case 'd':
			show_dead_letters(top);
			break;
	}
	return true;
}

static void
look_again(Top *top)
{
	if (top->conn != NULL && look(top))
		return;
	snprintf(top->message, sizeof(top->message), "the connection was lost; it is tried again");
	draw(top);
	PQfinish(top->conn);
	for (;;)
	{
		char	   *error;

		timeout(500);
		if (getch() == 'q')
			exit(OBX_EXIT_DATABASE);
		top->conn = obx_connect(&top->call->connect, &error);
		if (top->conn != NULL)
			break;
		free(error);
	}
	top->looked = 0;
	top->message[0] = '\0';
}

static void
leave_screen(void)
{
	if (!isendwin())
		endwin();
}

static void
run_screen(Top *top, int64_t interval)
{
	int64_t		next = obx_now() + interval;

	if (initscr() == NULL)
		obx_die(OBX_EXIT_ERROR, "there is no terminal");
	atexit(leave_screen);
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	for (;;)
	{
		int64_t		now = obx_now();
		int			key;

		draw(top);
		timeout(next > now ? (int) ((next - now) / 1000) + 1 : 0);
		key = getch();
		if (key != ERR)
		{
			if (!obey(top, key))
				return;
			look_again(top);
		}
		else if (obx_now() >= next)
		{
			look_again(top);
			next = obx_now() + interval;
		}
	}
}

#else

static void
run_screen(Top *top, int64_t interval)
{
	(void) top;
	(void) interval;
	obx_die(OBX_EXIT_ERROR, "this program was built without ncurses: top --once, and status --watch, work");
}

#endif

static int
run_top(ObxCall *call)
{
	const char *seconds = obx_call_value(call, "seconds");
	Top			top = {.call = call,.head_rate = -1};

	top.conn = obx_connect_or_die(&call->connect);
	if (!look(&top))
		obx_die(OBX_EXIT_DATABASE, "%s", PQerrorMessage(top.conn));
	if (obx_call_has(call, "once"))
		print_once(&top);
	else if (!isatty(STDOUT_FILENO))
		obx_call_refuse(call, "standard output is no terminal: use --once");
	else
		run_screen(&top, (seconds != NULL ? obx_call_number(call, "a number of seconds", seconds, 1) : 2) *
				   OBX_SECOND);
	PQfinish(top.conn);
	free_rows(top.rows, top.nrows);
	free(top.workers);
	return OBX_EXIT_OK;
}

const ObxCommand obx_top_command = {
	.name = "top",
	.usage = "[-s SECONDS] [--once]",
	.summary = "watch the subscriptions on one screen",
	.more = "Keys: q ends, s sorts by lag, name, rate or dead letters, the arrows choose a\n"
	"subscription, p pauses it, r resumes it, d shows its dead letters.",
	.run = run_top,
	.options = {
		{'s', "seconds", "SECONDS", NULL, "how often to look; every 2 seconds by default"},
		{0, "once", NULL, NULL, "print the screen once"},
		{0}
	}
};
