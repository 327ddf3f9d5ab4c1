// Reads CloudEvents, one JSON object a line, and prints what is wrong with
// them, then "checked N".  The first argument is a directory that may have the
// package cloudevents in node_modules, which is asked too if it does.
const fs = require('fs');
const path = require('path');
const module_path = path.join(process.argv[2], 'node_modules', 'cloudevents');
const sdk = fs.existsSync(module_path) ? require(module_path) : null;

// RFC 3986, appendix A, without IP literals
const pct = '%[0-9A-Fa-f]{2}';
const pchar = `(?:[A-Za-z0-9\\-._~!$&'()*+,;=:@]|${pct})`;
const nocolon = `(?:[A-Za-z0-9\\-._~!$&'()*+,;=@]|${pct})`;
const authority = `(?:(?:[A-Za-z0-9\\-._~!$&'()*+,;=:]|${pct})*@)?(?:[A-Za-z0-9\\-._~!$&'()*+,;=]|${pct})*(?::[0-9]*)?`;
const abempty = `(?:/${pchar}*)*`;
const absolute = `/(?:${pchar}+${abempty})?`;
const tail = `(?:\\?(?:${pchar}|[/?])*)?(?:#(?:${pchar}|[/?])*)?`;
const uri_reference = new RegExp('^(?:' +
	`[A-Za-z][A-Za-z0-9+\\-.]*:(?://${authority}${abempty}|${absolute}|${pchar}+${abempty}|)` +
	`|//${authority}${abempty}|${absolute}|${nocolon}+${abempty}|)${tail}$`);

const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;
const forbidden = /[\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef]|[\ufffe\uffff]|[\ud83f\ud87f\ud8bf\ud8ff\ud93f\ud97f\ud9bf\ud9ff\uda3f\uda7f\udabf\udaff\udb3f\udb7f\udbbf\udbff][\udffe\udfff]/;

function check_own(event)
{
	for (const name of ['specversion', 'id', 'source', 'type'])
		if (!(name in event))
			throw new Error(`no ${name}`);
	for (const [name, value] of Object.entries(event))
	{
		if (!/^[a-z0-9]{1,20}$/.test(name))
			throw new Error(`name ${name}`);
		if (name === 'data')
			continue;
		if (typeof value !== 'string' || value === '')
			throw new Error(`${name} is no string, or empty`);
		if (forbidden.test(value))
			throw new Error(`${name} has what no string may have`);
	}
	if (event.specversion !== '1.0')
		throw new Error('specversion');
	if (!uri_reference.test(event.source))
		throw new Error('source is no URI-reference');
	if (!rfc3339.test(event.time) || Number.isNaN(Date.parse(event.time)))
		throw new Error('time is not as in RFC 3339');
}

// By the package's own rules and the specification's schema, which it has; and
// as a message that goes out and comes in again, but for data that its
// messages do not support.
function check_sdk(event)
{
	const strict = new sdk.CloudEvent(event);

	strict.validate();
	if (typeof event.data !== 'object' || event.data === null)
		return;
	for (const mode of [sdk.HTTP.structured, sdk.HTTP.binary, sdk.Kafka.structured])
	{
		const back = (mode === sdk.Kafka.structured ? sdk.Kafka : sdk.HTTP).toEvent(mode(strict));

		back.validate();
		if (back.id !== event.id || back.partitionkey !== event.partitionkey ||
			back.source !== event.source || back.sequence !== event.sequence)
			throw new Error(`comes back as ${JSON.stringify(back)}`);
	}
}

let count = 0;
for (const line of fs.readFileSync(0, 'utf8').split('\n').filter((l) => l !== ''))
{
	const event = JSON.parse(line);

	try
	{
		check_own(event);
		if (sdk)
			check_sdk(event);
	}
	catch (error)
	{
		console.log(`${error.message}: ${line}`);
	}
	count++;
}
console.log(`checked ${count}${sdk ? ' with the package' : ''}`);
