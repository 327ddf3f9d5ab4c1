/*
 * What the program says on stderr: a line each, written at once.
 */
#include "base/log.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "base/text.h"

static bool with_time = false;

void
obx_log_with_time(void)
{
	with_time = true;
}

static void write_line(const char *level, const char *format, va_list args)
			__attribute__((format(printf, 2, 0)));

static void
write_line(const char *level, const char *format, va_list args)
{
	ObxText		line;
	ObxText		message;

	obx_text_init(&line);
	obx_text_init(&message);
	if (with_time)
	{
		struct timeval now;
		struct tm	utc;
		char		day[32];

		gettimeofday(&now, NULL);
		gmtime_r(&now.tv_sec, &utc);
		strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &utc);
		obx_text_printf(&line, "%s.%03d UTC ", day, (int) (now.tv_usec / 1000));
	}
	obx_text_printf(&line, "pg_outbox: %s", level);
	obx_text_vprintf(&message, format, args);
	while (message.length > 0 && message.data[message.length - 1] == '\n')
		message.data[--message.length] = '\0';
	if (with_time)
		obx_text_append_visible(&line, message.data);
	else
		obx_text_append_string(&line, message.data);
	obx_text_append_char(&line, '\n');
	fwrite(line.data, 1, line.length, stderr);
	obx_text_free(&line);
	obx_text_free(&message);
}

void
obx_log(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	write_line("", format, args);
	va_end(args);
}

void
obx_warn(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	write_line("warning: ", format, args);
	va_end(args);
}

void
obx_error(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	write_line("error: ", format, args);
	va_end(args);
}

void
obx_die(ObxExit code, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	write_line("error: ", format, args);
	va_end(args);
	exit(code);
}
