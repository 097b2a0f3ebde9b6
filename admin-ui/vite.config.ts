import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the UI of a running node: MERIDIAN_ADMIN=http://127.0.0.1:9000 npm run dev
const node = process.env.MERIDIAN_ADMIN ?? "http://127.0.0.1:9000";

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2022",
    // nothing is inlined: the content security policy allows files of the node only
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: { proxy: { "/api": { target: node, changeOrigin: true } } },
  test: { include: ["src/**/*.test.ts"] },
});
