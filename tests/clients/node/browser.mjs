// Chromium, driven by lines. The argument is the folder of its profile.
import { chromium } from 'playwright-core';
import { read, write } from './lines.mjs';

const context = await chromium.launchPersistentContext(process.argv[2], {
  executablePath: '/usr/bin/chromium',
  // Chromium's own sandbox needs a user other than root, or rights that a container lacks.
  chromiumSandbox: false,
  args: ['--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const page = context.pages()[0];
// Nearly as long as a test waits for an answer.
page.setDefaultTimeout(110_000);
page.setDefaultNavigationTimeout(110_000);
const complaints = [];
page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
page.on('pageerror', (error) => complaints.push(String(error)));
const devtools = await context.newCDPSession(page);

const methods = {
  open: ({ url }) => page.goto(url).then((response) => response?.status() ?? null),
  press: ({ keys }) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve()),
  type: ({ text }) => page.keyboard.insertText(text),
  fill: ({ label, text }) => page.getByLabel(label, { exact: true }).fill(text),
  click: ({ button }) => page.getByRole('button', { name: button, exact: true }).click(),
  // Waits for the sentence above the form.
  says: ({ text }) => page.getByRole('status').filter({ hasText: text }).waitFor(),
  prefer: async ({ media, width, height }) => {
    await page.emulateMedia(media);
    await page.setViewportSize({ width, height });
  },
  withoutScripts: async () => { await devtools.send('Emulation.setScriptExecutionDisabled', { value: true }); },
  before: ({ script }) => context.addInitScript(script),
  // As the developer tools do it, which the page's policy leaves alone.
  evaluate: async ({ script }) => {
    const { result, exceptionDetails } = await devtools.send('Runtime.evaluate',
      { expression: script, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value ?? null;
  },
  // What a screen reader has.
  accessibility: async () => {
    const { nodes } = await devtools.send('Accessibility.getFullAXTree');
    return nodes.filter(({ ignored }) => !ignored).map(({ role, name, description, value, properties }) => ({
      role: String(role?.value ?? ''),
      name: String(name?.value ?? ''),
      description: String(description?.value ?? ''),
      value: String(value?.value ?? ''),
      isFocused: properties?.some((property) => property.name === 'focused' && property.value.value) ?? false,
    }));
  },
  screenshot: async ({ path }) => { await page.locator('main').screenshot({ path }); },
  complaints: async () => complaints.splice(0),
  close: async () => { await context.close(); },
};

write({ done: null });
for (;;) {
  const { method, ...params } = await read();
  const message = await methods[method](params).then((done) => ({ done: done ?? null }), (error) => ({ error: String(error) }));
  write(message);
}
