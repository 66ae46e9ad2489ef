# make serve    install what is missing, build, and serve the demo model on 127.0.0.1:8000
# make test     install what is missing, build, and run all tests
# make build    install what is missing and build build/release/gimbal
# make report-env  install what `gimbal report` draws with (matplotlib)
# make asan     the tests under AddressSanitizer and UndefinedBehaviorSanitizer
# make tsan     the threaded tests under ThreadSanitizer
# make check    the guards: include table, sizes, header self-containment, formatting
# make format   reformat all sources
PORT ?= 8000
HOST ?= 127.0.0.1
MODEL ?= models/demo
CTEST_JOBS ?= $(shell nproc)

.PHONY: serve test build setup report-env asan tsan check format
.DEFAULT_GOAL := build

setup:
	@tools/install_packages.sh tools/debian-packages.txt
	@tools/setup_python.sh build/python-env

build: setup
	cmake --preset release
	cmake --build --preset release

serve: build
	build/release/gimbal serve "$(MODEL)" --host "$(HOST)" --port "$(PORT)"

report-env:
	@tools/setup_python.sh build/report-env requirements-report.txt

test: setup report-env
	@tools/setup_python.sh build/test-env requirements-test.txt
	@tools/fetch_promtool.sh build/promtool
	cmake --preset test
	cmake --build --preset test
	ctest --preset test -j $(CTEST_JOBS)

asan tsan: setup
	@tools/install_packages.sh tools/debian-packages-ci.txt
	cmake --preset $@
	cmake --build --preset $@ --target gimbal_tests
	ctest --preset $@ -j $(CTEST_JOBS)

check:
	@tools/install_packages.sh tools/debian-packages.txt tools/debian-packages-ci.txt
	/usr/bin/python3 tools/check_layers.py
	/usr/bin/python3 tools/check_sizes.py
	tools/check_format.sh
	cmake --preset test
	cmake --build --preset test --target all_verify_interface_header_sets

format:
	@tools/install_packages.sh tools/debian-packages-ci.txt
	git ls-files '*.h' '*.cc' | xargs -d '\n' clang-format -i
