# The same as boot.rb, with a heartbeat every second instead of every five.
require_relative "boot"
require "sidekiq/launcher"

Sidekiq::Launcher.send(:remove_const, :BEAT_PAUSE)
Sidekiq::Launcher::BEAT_PAUSE = 1
