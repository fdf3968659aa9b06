# What a Sidekiq process needs to work in this test: the jobs, and a poller that looks more often than every 5 s.
require "sidekiq"
require_relative "jobs"

Sidekiq.options[:poll_interval_average] = 0.4
Sidekiq.options[:timeout] = 10
Sidekiq.default_worker_options = {"retry" => 3, "backtrace" => false}
