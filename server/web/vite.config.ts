import { defineConfig } from 'vite'

// The server's content security policy allows no inline script, no data: URL and no other host.
export default defineConfig({
  root: import.meta.dirname,
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: '../dist/web',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: false,
    rollupOptions: { output: { entryFileNames: 'assets/page-[hash].js' } },
  },
})
