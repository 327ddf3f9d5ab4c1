/*
 * A text with parts of an event in it.
 */
#include "event/template.h"

#include <stdlib.h>
#include <string.h>

#define HEADER "header."

typedef struct Part
{
	int			column;			/* 0: the text as it is */
	char	   *text;			/* or the name, of a header without "header." */
} Part;

struct ObxTemplate
{
	Part	   *parts;
	int			count;
	int			columns;
};

static const struct
{
	const char *name;
	int			column;
}			columns[] =

{
	{
		"type", OBX_COLUMN_TYPE
	},
	{
		"source", OBX_COLUMN_SOURCE
	},
	{
		"key", OBX_COLUMN_KEY
	},
	{
		"operation", OBX_COLUMN_OPERATION
	}
};

/* 0 for a name that is none. */
static int
find_column(const char *name)
{
	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
		if (strcmp(columns[i].name, name) == 0)
			return columns[i].column;
	return strncmp(name, HEADER, strlen(HEADER)) == 0 && name[strlen(HEADER)] != '\0' ?
		OBX_COLUMN_HEADERS : 0;
}

static void
add_part(ObxTemplate *template, int column, const char *text)
{
	template->parts = obx_reallocate(template->parts, (template->count + 1) * sizeof(Part));
	template->parts[template->count++] = (Part)
	{
		column, obx_copy_string(text)
	};
	template->columns |= column;
}

/* Adds the text that was gathered. */
static void
end_text(ObxTemplate *template, ObxText *text)
{
	if (text->length > 0)
		add_part(template, 0, text->data);
	obx_text_clear(text);
}

/* The column or header whose opening brace this is; returns its closing one, or NULL. */
static const char *
read_reference(ObxTemplate *template, const char *c)
{
	size_t		length = strcspn(c + 1, "{}");
	char	   *name = obx_copy_string(c + 1);
	int			column;

	name[length] = '\0';
	column = c[length + 1] == '}' ? find_column(name) : 0;
	if (column != 0)
		add_part(template, column, column == OBX_COLUMN_HEADERS ? name + strlen(HEADER) : name);
	free(name);
	return column != 0 ? c + length + 1 : NULL;
}

ObxTemplate *
obx_template_read(ObxConfig *config, const char *section, const char *name, const char *otherwise)
{
	const char *value = obx_config_get(config, section, name);
	ObxTemplate *template = obx_allocate(sizeof(ObxTemplate));
	ObxText text;

	obx_text_init(&text);
	for (const char *c = value != NULL ? value : otherwise; *c != '\0'; c++)
	{
		if ((*c == '{' || *c == '}') && c[1] == *c)
			c++;
		else if (*c == '{' || *c == '}')
		{
			end_text(template, &text);
			c = *c == '{' ? read_reference(template, c) : NULL;
			if (c != NULL)
				continue;
			obx_config_fail(config, section, name, "\"%s\" cannot be \"%s\": what can stand in braces is"
							" {type}, {source}, {key}, {operation} and {header.NAME}", name, value);
			break;
		}
		obx_text_append_char(&text, *c);
	}
	end_text(template, &text);
	obx_text_free(&text);
	if (config->error.length == 0)
		return template;
	obx_template_free(template);
	return NULL;
}

void
obx_template_free(ObxTemplate *template)
{
	if (template == NULL)
		return;
	for (int i = 0; i < template->count; i++)
		free(template->parts[i].text);
	free(template->parts);
	free(template);
}

int
obx_template_columns(const ObxTemplate *template)
{
	return template->columns;
}

static const char *
get_column(const ObxEvent *event, int column)
{
	switch (column)
	{
		case OBX_COLUMN_TYPE:
			return event->type;
		case OBX_COLUMN_SOURCE:
			return event->source;
		case OBX_COLUMN_KEY:
			return event->key;
		case OBX_COLUMN_OPERATION:
			return event->operation;
	}
	return NULL;
}

static bool
append_part(ObxText *text, const Part *part, const ObxEvent *event)
{
	const char *value = part->column == 0 ? part->text : get_column(event, part->column);

	if (part->column == OBX_COLUMN_HEADERS)
		return event->headers != NULL && obx_json_find_text(event->headers, part->text, text);
	if (value != NULL)
		obx_text_append_string(text, value);
	return value != NULL;
}

bool
obx_template_append(ObxText *text, const ObxTemplate *template, const ObxEvent *event,
					const char **missing)
{
	size_t		start = text->length;

	for (int i = 0; i < template->count; i++)
	{
		if (append_part(text, &template->parts[i], event))
			continue;
		*missing = template->parts[i].text;
		text	  ->length = start;
		text	  ->data[start] = '\0';

		return false;
	}
	return true;
}
