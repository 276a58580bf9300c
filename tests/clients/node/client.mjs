// An MCP client of the official SDKs, driven by lines. The argument is the SDK's major.
import { read, write } from './lines.mjs';

const info = { name: 'test', version: '0' };
const sdks = {
  1: async (capabilities) => {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const { ElicitRequestSchema } = await import('@modelcontextprotocol/sdk/types.js');
    const client = new Client(info, { capabilities });
    return { client, request: ElicitRequestSchema, StdioClientTransport, StreamableHTTPClientTransport };
  },
  2: async (capabilities) => {
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
    const client = new Client(info, { capabilities, versionNegotiation: { mode: 'auto' } });
    return { client, request: 'elicitation/create', StdioClientTransport, StreamableHTTPClientTransport };
  },
};

const { server, elicitation } = await read();
const { client, request, StdioClientTransport, StreamableHTTPClientTransport } =
  await sdks[process.argv[2]](elicitation ? { elicitation } : {});
if (elicitation) {
  client.setRequestHandler(request, async ({ params }) => {
    write({ elicit: params });
    return read();
  });
}

// Everything that this client could have shown or kept.
const log = (way, message) => process.stderr.write(`${way} ${JSON.stringify(message)}\n`);
const transport = server.url
  ? new StreamableHTTPClientTransport(new URL(server.url), { requestInit: { headers: server.headers } })
  : new StdioClientTransport(server);
const { send } = transport;
transport.send = (message, options) => {
  log('>', message);
  return send.call(transport, message, options);
};

const methods = {
  list: async () => ({ tools: (await client.listTools()).tools }),
  call: async ({ name, arguments: given }) => ({ result: await client.callTool({ name, arguments: given }) }),
};
const answer = async (promise) => {
  const message = await promise.catch(({ code, message, data }) => ({ error: { code, message, data } }));
  log('<', message);
  write(message);
};

await answer(client.connect(transport).then(() => ({ server: client.getServerVersion() ?? {} })));
for (;;) {
  const { method, ...params } = await read();
  await answer(methods[method](params));
}
